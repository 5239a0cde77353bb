package main

import (
	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// treeObject is what `tree -o json` lists.
type treeObject struct {
	Cluster string `json:"cluster"`
	fleet.Object
}

func newTree(s *shell) *cobra.Command {
	var w where
	var f format
	c := &cobra.Command{
		Use:   "tree APP",
		Short: "List the objects an app owns, with their health",
		Example: `  capstan tree guestbook --cluster prod
  capstan tree shop/guestbook -o json`,
		Args:              exactly("APP"),
		ValidArgsFunction: s.completeApp,
		RunE: func(c *cobra.Command, args []string) error {
			all, app, err := eachCluster(c.Context(), s, args[0], w, hub.Tree, func(cluster string, o fleet.Object) treeObject {
				return treeObject{cluster, o}
			})
			if err != nil {
				return err
			}
			if f == formatJSON || f == formatYAML {
				return s.encode(client.List[treeObject]{Items: append([]treeObject{}, all...)}, f)
			}
			for i, a := range app.where {
				if i > 0 {
					s.printf("\n")
				}
				s.printf("%s on %s: %s, %s\n", app.name, a.Cluster, a.Sync, s.paint(wordColor[string(a.Health)], string(a.Health)))
				s.printTree(objectsOn(all, a.Cluster))
			}
			return nil
		},
	}
	w.addFlags(c, s)
	addFormat(c, &f, formatJSON, formatYAML)
	return c
}

func objectsOn(all []treeObject, cluster string) []fleet.Object {
	var out []fleet.Object
	for _, o := range all {
		if o.Cluster == cluster {
			out = append(out, o.Object)
		}
	}
	return out
}

func (s *shell) printTree(objects []fleet.Object) {
	width := 0
	for _, o := range objects {
		width = max(width, len([]rune(oneLine(o.Object.String()))))
	}
	for i, o := range objects {
		branch := "├─ "
		if i == len(objects)-1 {
			branch = "└─ "
		}
		s.printf("%s%s\n", branch, s.align([]string{oneLine(o.Object.String()), string(o.Health), oneLine(o.Message)}, []int{width, 11, 0}))
	}
}
