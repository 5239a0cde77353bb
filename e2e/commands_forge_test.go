package e2e_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// forge posts an approval to the hub, for the plan that waits for an app:
//
//	good            by the approver, for that plan: nothing is wrong with it
//	again           the last good one, byte for byte
//	unsigned        with nothing but white space where its signature should be
//	wrong-key       in the approver's name, by a key that nobody pinned
//	altered         signed, and changed afterwards
//	wrong-plan      by the approver, for a plan that was never made
//	wrong-content   by the approver, for that plan but another digest
//	wrong-cluster   by the approver, for a cluster of the same name elsewhere
//	short-lived     by the approver, for that plan, for a few seconds
//
// The hub does not judge signatures, so it passes all of them on.
func (p *play) forge(args []string) (string, error) {
	if len(args) != 3 {
		return "", errUsage
	}
	what, key := args[0], args[1]+" "+args[2]
	sent, known := p.sent[what+" "+key]
	if what == "again" {
		sent, known = p.sent["good "+key]
		if !known {
			return "", errUsage
		}
	}
	// A short-lived one is the same each time, so that it can be seen to expire.
	if what != "again" && (what != "short-lived" || !known) {
		var err error
		if sent, err = p.makeApproval(what, args[1], args[2]); err != nil {
			return "", err
		}
		p.sent[what+" "+key] = sent
	}
	return "", p.stage.Hub.Client.Approve(p.ctx, sent)
}

func (p *play) makeApproval(what, cluster, app string) (fleet.SignedApproval, error) {
	none := fleet.SignedApproval{}
	a, err := p.statement(cluster, app)
	if err != nil {
		return none, err
	}
	keyFile := p.stage.Approver.Key
	target := &a.Targets[0]
	switch what {
	case "good", "unsigned", "altered":
	case "wrong-key":
		stranger, err := stage.NewApprover(filepath.Join(p.work, "stranger"))
		if err != nil {
			return none, err
		}
		keyFile = stranger.Key
	case "wrong-plan":
		target.Plan = "ANOTHERPLANALTOGETHER"
	case "wrong-content":
		target.To = target.To[:len(target.To)-8] + "00000000"
	case "wrong-cluster":
		target.ClusterUID = "00000000-0000-0000-0000-000000000000"
	case "short-lived":
		a.Expires = a.NotBefore.Add(4 * time.Second)
	default:
		return none, errUsage
	}
	signed, err := signApproval(a, keyFile)
	switch what {
	case "unsigned":
		signed.Signature = "\n" // an empty one the hub itself refuses
	case "altered":
		signed.Statement = bytes.Replace(signed.Statement, []byte(a.Comment), []byte("pleased"), 1)
	}
	return signed, err
}

// statement is what the approver would sign. The hub knows enough to write it,
// whether the agent answers or not; it can't sign it.
func (p *play) statement(cluster, app string) (fleet.Approval, error) {
	none := fleet.Approval{}
	clusters, err := p.stage.Hub.Client.Clusters(p.ctx, fleet.ClusterFilter{Names: []string{cluster}})
	if err != nil {
		return none, err
	}
	apps, err := p.stage.Hub.Client.Apps(p.ctx, fleet.AppFilter{Clusters: []string{cluster}, Name: app})
	if err != nil {
		return none, err
	}
	if len(clusters) != 1 || len(apps) != 1 || apps[0].Pending == nil {
		return none, fmt.Errorf("nothing waits for %s on %s", app, cluster)
	}
	now, waits := time.Now().UTC().Truncate(time.Second), apps[0].Pending
	return fleet.Approval{
		Action: waits.Action, App: apps[0].Name().String(), Approver: stage.ApproverName, Comment: "pressed",
		Targets:   []fleet.Target{{ClusterUID: clusters[0].UID, Cluster: cluster, From: apps[0].Digest, To: waits.Digest, Plan: waits.Plan}},
		NotBefore: now.Add(-time.Second), Expires: now.Add(time.Hour),
	}, nil
}

// nowhere looks for a value, as it is and in base64, in all that the hub keeps
// and in all that the hub and the agents log.
func (p *play) nowhere(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	plain := []byte(args[0])
	// In base64 the characters depend on what comes before: three ways to stand.
	forms := [][]byte{plain}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), plain...))
		forms = append(forms, []byte(text[4:len(text)-4]))
	}
	dir, read := filepath.Join(p.work, stageDir), 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Git and the cluster's own store are where the value belongs.
			if name, _ := filepath.Rel(dir, path); name == "git" || name == "fleet" || d.Name() == "cluster" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || filepath.Dir(path) == filepath.Join(dir, "bin") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		for _, form := range forms {
			if bytes.Contains(b, form) {
				return fmt.Errorf("%s holds %s", path, form)
			}
		}
		return nil
	})
	if err == nil && read == 0 {
		err = fmt.Errorf("there is nothing in %s", dir)
	}
	return "", err
}
