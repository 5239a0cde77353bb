package hooks

import "net/http"

// gitHubCall is what GitHub's, Gitea's and Forgejo's calls have in common: the
// latter two took over the first one's form.
type gitHubCall struct {
	Action     string `json:"action"`
	Ref        string `json:"ref"`
	Repository struct {
		CloneURL string `json:"clone_url"`
		SSHURL   string `json:"ssh_url"`
		HTMLURL  string `json:"html_url"`
	} `json:"repository"`
	PullRequest struct {
		Merged bool `json:"merged"`
		Base   struct {
			Ref string `json:"ref"`
		} `json:"base"`
	} `json:"pull_request"`
}

func (c *gitHubCall) event(name, delivery string) event {
	ev := event{delivery: delivery, addresses: addresses(c.Repository.CloneURL, c.Repository.SSHURL, c.Repository.HTMLURL)}
	switch name {
	case "ping":
		ev.what = ping
	case "push": // tags, deletions and merges as well
		ev.what, ev.refs = push, refs(c.Ref)
	case "pull_request":
		if c.Action == "closed" && c.PullRequest.Merged {
			ev.what, ev.refs = push, refs(branch(c.PullRequest.Base.Ref))
		}
	}
	return ev
}

func readGitHub(h http.Header, body []byte) (event, error) {
	var c gitHubCall
	if err := unmarshal(body, &c); err != nil {
		return event{}, err
	}
	return c.event(h.Get("X-GitHub-Event"), h.Get("X-GitHub-Delivery")), nil
}

func readGitea(h http.Header, body []byte) (event, error) {
	var c gitHubCall
	if err := unmarshal(body, &c); err != nil {
		return event{}, err
	}
	return c.event(first(h, "X-Forgejo-Event", "X-Gitea-Event", "X-GitHub-Event"),
		first(h, "X-Forgejo-Delivery", "X-Gitea-Delivery", "X-GitHub-Delivery")), nil
}
