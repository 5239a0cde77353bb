package e2e_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/e2e/tripwire"
)

// wire stands between an agent and its API server.
type wire struct {
	*tripwire.Wire
	jams map[string]func() // each ends one, by what it holds up
}

// askedPause is longer than what the agent waits with a request in hand.
const askedPause = 8 * time.Second

// stretch puts a wire between an agent and its API server.
func (p *play) stretch(cluster, kubeconfig string) error {
	w, err := tripwire.New(kubeconfig, func(tripwire.Request) {})
	if err != nil {
		return err
	}
	p.wires[cluster] = &wire{Wire: w, jams: make(map[string]func())}
	return w.Lead(kubeconfig)
}

// wire holds an agent's requests for an object up: busy answers 429 and asks for a
// pause, hang does not answer, and open ends either.
func (p *play) wire(args []string) (string, error) {
	if len(args) != 4 || p.wires[args[0]] == nil {
		return "", errUsage
	}
	w, method := p.wires[args[0]], args[2]
	resource, name, ok := strings.Cut(args[3], "/")
	what := strings.Join(args[2:], " ")
	if args[1] == "open" {
		end, held := w.jams[what]
		if !held {
			return "", fmt.Errorf("%s is not held up", what)
		}
		end()
		delete(w.jams, what)
		return "", nil
	}
	pause, known := map[string]time.Duration{"busy": askedPause, "hang": 0}[args[1]]
	if !known || !ok {
		return "", errUsage
	}
	w.jams[what] = w.Jam(tripwire.Jam{Pause: pause, Match: func(r tripwire.Request) bool {
		return r.Method == method && r.Resource == resource && r.Name == name && r.Subresource == ""
	}})
	return "", nil
}
