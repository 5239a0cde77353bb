package hooks

import "net/http"

type azureCall struct {
	ID       string `json:"id"`
	Type     string `json:"eventType"`
	Resource struct {
		Status     string `json:"status"`
		Target     string `json:"targetRefName"`
		Repository struct {
			Remote string `json:"remoteUrl"`
			SSH    string `json:"sshUrl"`
			Web    string `json:"webUrl"`
		} `json:"repository"`
		Updates []struct {
			Name string `json:"name"`
		} `json:"refUpdates"`
	} `json:"resource"`
}

// readAzure takes service hooks of Azure DevOps. They have no ping: a test
// sends a push to a repository that does not exist.
func readAzure(_ http.Header, body []byte) (event, error) {
	var c azureCall
	if err := unmarshal(body, &c); err != nil {
		return event{}, err
	}
	r := c.Resource.Repository
	ev := event{delivery: c.ID, addresses: addresses(r.Remote, r.SSH, r.Web)}
	switch c.Type {
	case "git.push":
		var moved []string
		for _, u := range c.Resource.Updates {
			moved = append(moved, u.Name)
		}
		ev.what, ev.refs = push, refs(moved...)
	case "git.pullrequest.merged":
		if c.Resource.Status == "completed" {
			ev.what, ev.refs = push, refs(c.Resource.Target)
		}
	}
	return ev, nil
}
