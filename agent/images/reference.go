package images

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const dockerHub = "docker.io"

// Image gives the name under which an image is pulled here. Tag and digest stay
// as they are, and so does a name that no mirror is for.
func (r *Rewriter) Image(ref string) string {
	if r == nil {
		return ref
	}
	name, version := cutVersion(ref)
	full, ok := fullName(name)
	if !ok {
		return ref
	}
	for _, m := range r.mirrors {
		rest, ok := below(full, m.From)
		if !ok {
			continue
		}
		if _, there := below(full, m.To); there { // written with the mirror's own name
			return ref
		}
		return m.To + rest + version
	}
	return ref
}

// below tells whether a name is a prefix or stands below it, and what follows.
func below(name, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// cutVersion cuts tag and digest off.
func cutVersion(ref string) (name, version string) {
	name = ref
	if i := strings.IndexByte(name, '@'); i >= 0 {
		name = name[:i]
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name, ref[len(name):]
}

var (
	hostName = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$`)
	pathName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
)

// fullName writes Docker Hub's short forms out: nginx is
// docker.io/library/nginx. It reports false for what is no image name, a
// variable for example.
func fullName(name string) (string, bool) {
	host, path, found := strings.Cut(name, "/")
	if !found || !isHost(host) {
		host, path = dockerHub, name
	}
	if host = canonicalHost(host); host == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return host + "/" + path, hostName.MatchString(host) && pathName.MatchString(path)
}

// isHost tells a registry from the first part of a Docker Hub name, as Docker
// does.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || s != strings.ToLower(s)
}

// canonicalHost gives Docker Hub its one name.
func canonicalHost(name string) string {
	host, path, found := strings.Cut(name, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		host = dockerHub
	}
	if found {
		return host + "/" + path
	}
	return host
}

func (m Mirror) validate(i int) error {
	for _, f := range []struct{ name, value, example string }{{"from", m.From, "docker.io or ghcr.io/org"}, {"to", m.To, "registry.example/mirror"}} {
		field := fmt.Sprintf("images.mirrors[%d].%s", i, f.name)
		hint := "write a registry and maybe a part of it, without a scheme and without a tag, like " + f.example
		host, path, found := strings.Cut(f.value, "/")
		switch {
		case f.value == "":
			return fleet.WithHint(fleet.Invalid("%s is not set", field), hint)
		case !isHost(host) || !hostName.MatchString(host) || found && !pathName.MatchString(path):
			return fleet.WithHint(fleet.Invalid("%s: %q is not a registry", field, f.value), hint)
		}
	}
	return nil
}

var (
	kindName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	pathStep = regexp.MustCompile(`^(?:\*|[A-Za-z_][-A-Za-z0-9_]*)(?:\[\])*$`)
)

func (p Path) validate(i int) error {
	field := fmt.Sprintf("images.paths[%d]", i)
	if !kindName.MatchString(p.Kind) {
		return fleet.WithHint(fleet.Invalid("%s.kind: %q is not a kind", field, p.Kind), "write it like Rollout")
	}
	if strings.ContainsAny(p.Group, "/ ") {
		return fleet.WithHint(fleet.Invalid("%s.group: %q is not an API group", field, p.Group), "write it like argoproj.io, without a version")
	}
	for step := range strings.SplitSeq(p.Path, ".") {
		if !pathStep.MatchString(step) {
			return fleet.WithHint(fleet.Invalid("%s.path: %q is not a path to an image", field, p.Path), "write it like spec.template.spec, spec.images[] or spec.sidecars.*.image")
		}
	}
	return nil
}
