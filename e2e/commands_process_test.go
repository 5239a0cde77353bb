package e2e_test

import "github.com/capstan-gitops/capstan/e2e/cluster"

func (p *play) agent(args []string) (string, error) {
	if len(args) != 2 || p.stage.Spoke(args[0]) == nil {
		return "", errUsage
	}
	spoke := p.stage.Spoke(args[0])
	switch args[1] {
	case "stop":
		return "", spoke.Agent().Stop()
	case "continue":
		return "", spoke.Agent().Continue()
	case "kill":
		return "", spoke.Agent().Kill()
	case "start":
		return "", spoke.StartAgent()
	case "standby":
		return "", spoke.StartStandby()
	}
	return "", errUsage
}

func (p *play) hub(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	switch args[0] {
	case "stop":
		return "", p.stage.Hub.Stop()
	case "continue":
		return "", p.stage.Hub.Continue()
	case "kill":
		return "", p.stage.Hub.Kill()
	case "start":
		return "", p.stage.Hub.Start(p.ctx)
	case "replace":
		return "", p.stage.Hub.Replace(p.ctx)
	}
	return "", errUsage
}

func (p *play) part(args []string) (string, error) {
	if len(args) != 3 || p.stage.Spoke(args[0]) == nil {
		return "", errUsage
	}
	c, part := p.stage.Spoke(args[0]).Cluster, cluster.Part(args[1])
	switch args[2] {
	case "stop":
		return "", c.Stop(part)
	case "continue":
		return "", c.Continue(part)
	case "kill":
		return "", c.Kill(part)
	case "start":
		return "", c.Restart(p.ctx, part)
	}
	return "", errUsage
}

func (p *play) git(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	switch args[0] {
	case "down", "up":
		p.stage.Git.SetAvailable(args[0] == "up")
	case "refuse", "accept":
		p.stage.Git.RefuseCredentials(args[0] == "refuse")
	default:
		return "", errUsage
	}
	return "", nil
}
