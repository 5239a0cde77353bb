package hooks

import (
	"cmp"
	"net/http"
	"strings"
)

// bitbucketCall is of Bitbucket Cloud, or of Data Center ("Server"): the event
// says which.
type bitbucketCall struct {
	Repository bitbucketRepository `json:"repository"`
	Push       struct {
		Changes []struct {
			New *bitbucketRef `json:"new"`
			Old *bitbucketRef `json:"old"`
		} `json:"changes"`
	} `json:"push"`
	Changes []struct { // Data Center
		Ref struct {
			ID string `json:"id"`
		} `json:"ref"`
	} `json:"changes"`
	Cloud struct {
		Destination struct {
			Branch struct {
				Name string `json:"name"`
			} `json:"branch"`
			Repository bitbucketRepository `json:"repository"`
		} `json:"destination"`
	} `json:"pullrequest"`
	Center struct {
		To struct {
			ID         string              `json:"id"`
			Repository bitbucketRepository `json:"repository"`
		} `json:"toRef"`
	} `json:"pullRequest"`
}

type bitbucketRef struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

func (r *bitbucketRef) String() string {
	switch {
	case r == nil || r.Name == "":
		return ""
	case r.Type == "tag":
		return "refs/tags/" + r.Name
	}
	return branch(r.Name)
}

type bitbucketRepository struct {
	Slug    string `json:"slug"`
	Project struct {
		Key string `json:"key"`
	} `json:"project"`
	Links struct {
		HTML struct {
			Href string `json:"href"`
		} `json:"html"`
		Clone []struct {
			Href string `json:"href"`
		} `json:"clone"`
	} `json:"links"`
}

// place fills in where the repository is. Older Data Centers name only project
// and repository: the secret's line then says which host.
func (r bitbucketRepository) place(ev *event) {
	all := []string{r.Links.HTML.Href}
	for _, l := range r.Links.Clone {
		all = append(all, l.Href)
	}
	ev.addresses = addresses(all...)
	if len(ev.addresses) == 0 && r.Slug != "" && r.Project.Key != "" {
		ev.tail = strings.ToLower(r.Project.Key + "/" + r.Slug)
	}
}

func readBitbucket(h http.Header, body []byte) (event, error) {
	var c bitbucketCall
	if err := unmarshal(body, &c); err != nil {
		return event{}, err
	}
	ev := event{delivery: first(h, "X-Request-UUID", "X-Request-Id")}
	c.Repository.place(&ev)
	var moved []string
	switch h.Get("X-Event-Key") {
	case "diagnostics:ping":
		ev.what = ping
	case "repo:push":
		ev.what = push
		for _, ch := range c.Push.Changes {
			moved = append(moved, cmp.Or(ch.New.String(), ch.Old.String()))
		}
	case "repo:refs_changed":
		ev.what = push
		for _, ch := range c.Changes {
			moved = append(moved, ch.Ref.ID)
		}
	case "pullrequest:fulfilled":
		ev.what, moved = push, []string{branch(c.Cloud.Destination.Branch.Name)}
		c.Cloud.Destination.Repository.or(c.Repository).place(&ev)
	case "pr:merged":
		ev.what, moved = push, []string{c.Center.To.ID}
		c.Center.To.Repository.or(c.Repository).place(&ev)
	}
	ev.refs = refs(moved...)
	return ev, nil
}

// or is another repository where this one is not said.
func (r bitbucketRepository) or(another bitbucketRepository) bitbucketRepository {
	if r.Slug == "" && r.Links.HTML.Href == "" && len(r.Links.Clone) == 0 {
		return another
	}
	return r
}
