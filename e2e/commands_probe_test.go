package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

var prober = &http.Client{Timeout: 10 * time.Second}

// probe asks an agent over HTTP, as a kubelet or Prometheus would: whatever is
// not 200 is an error.
func (p *play) probe(args []string) (string, error) {
	if len(args) != 3 || p.stage.Spoke(args[0]) == nil {
		return "", errUsage
	}
	address, ok := map[string]string{
		"agent": p.stage.Spoke(args[0]).AgentAddress(), "standby": p.stage.Spoke(args[0]).StandbyAddress(),
	}[args[1]]
	if !ok {
		return "", errUsage
	}
	r, err := http.NewRequestWithContext(p.ctx, http.MethodGet, "http://"+address+args[2], nil)
	if err != nil {
		return "", err
	}
	resp, err := prober.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return string(body), fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), nil
}
