package hooks

import "net/http"

type gitLabCall struct {
	Kind    string `json:"object_kind"`
	Name    string `json:"event_name"`
	Ref     string `json:"ref"`
	Project struct {
		HTTP string `json:"git_http_url"`
		SSH  string `json:"git_ssh_url"`
		Web  string `json:"web_url"`
	} `json:"project"`
	Repository struct {
		HTTP string `json:"git_http_url"`
		SSH  string `json:"git_ssh_url"`
	} `json:"repository"`
	Merge struct {
		Action string `json:"action"`
		Target string `json:"target_branch"`
	} `json:"object_attributes"`
}

// readGitLab takes project, group and system hooks. GitLab has no ping: its
// test sends the latest push.
func readGitLab(h http.Header, body []byte) (event, error) {
	var c gitLabCall
	if err := unmarshal(body, &c); err != nil {
		return event{}, err
	}
	ev := event{
		delivery:  first(h, "X-Gitlab-Event-UUID", "Idempotency-Key"),
		addresses: addresses(c.Project.HTTP, c.Repository.HTTP, c.Project.SSH, c.Repository.SSH, c.Project.Web),
	}
	switch {
	case c.Kind == "push", c.Kind == "tag_push", c.Kind == "" && (c.Name == "push" || c.Name == "tag_push"):
		ev.what, ev.refs = push, refs(c.Ref)
	case c.Kind == "merge_request" && c.Merge.Action == "merge":
		ev.what, ev.refs = push, refs(branch(c.Merge.Target))
	case c.Name == "repository_update":
		ev.what = push
	}
	return ev, nil
}
