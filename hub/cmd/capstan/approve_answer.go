package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// refusedWords are how a cluster's message says that an approval did not count.
const refusedWords = "was refused: "

// answers waits for what the clusters say to an approval. The hub only relays
// it: each cluster checks the signature itself. An error is a cluster's refusal.
func (s *shell) answers(ctx context.Context, h hub, app chosen, a fleet.Approval, patience time.Duration) error {
	if patience <= 0 {
		return nil
	}
	waiting := map[string]fleet.Target{}
	before := map[string]fleet.AppStatus{}
	var clusters []string
	for _, t := range a.Targets {
		waiting[t.Cluster] = t
		clusters = append(clusters, t.Cluster)
	}
	for _, status := range app.where {
		before[status.Cluster] = status
	}
	var refused error
	now := map[string]fleet.AppStatus{}
	look := func() (bool, error) {
		found, err := h.Apps(ctx, fleet.AppFilter{Clusters: clusters, Namespace: app.name.Namespace, Name: app.name.Name})
		if err != nil {
			return false, err
		}
		clear(now)
		for _, status := range found {
			now[status.Cluster] = status
		}
		for _, cluster := range clusters {
			t, still := waiting[cluster]
			if !still {
				continue
			}
			text, err := answer(t, before[cluster], now)
			if text == "" && err == nil {
				continue
			}
			delete(waiting, cluster)
			refused = errors.Join(refused, err)
			if err == nil {
				s.printf("%s: %s\n", cluster, text)
			}
		}
		return len(waiting) == 0, nil
	}
	if err := s.await(ctx, h, patience, look); err != nil {
		return fmt.Errorf("the approval was relayed; what the clusters say to it can't be had: %w", err)
	}
	for _, cluster := range clusters {
		if _, still := waiting[cluster]; !still {
			continue
		}
		// One that said so before the approval may say the same again: no news, and no go.
		if text := now[cluster].Message; refuses(text, waiting[cluster]) {
			refused = errors.Join(refused, refusal(cluster, text))
			continue
		}
		s.say("%s has not answered within %s; it hears of the approval when it can", cluster, patience)
	}
	return refused
}

// answer is what a cluster says; "" where it has not yet.
func answer(t fleet.Target, before fleet.AppStatus, now map[string]fleet.AppStatus) (string, error) {
	a, there := now[t.Cluster]
	switch {
	case !there:
		return "accepted: the app has left", nil
	case a.Stale:
		return "silent: it hears of the approval when it is back", nil
	case a.Pending == nil || a.Pending.Plan != t.Plan:
		return "accepted", nil
	case before.Pending != nil && a.Pending.Have > before.Pending.Have:
		return fmt.Sprintf("counted: %d of %d approvals", a.Pending.Have, a.Pending.Need), nil
	case refuses(a.Message, t) && a.Message != before.Message:
		return "", refusal(t.Cluster, a.Message)
	}
	return "", nil
}

// ofAnotherPlan is what a cluster says of an approval that was for a plan of the past:
// the hub sends it along until it expires.
var ofAnotherPlan = regexp.MustCompile(refusedWords + `(?:it is for )?plan (\S+?),? (?:was let through|which is no longer)`)

// refuses tells a message that an approval of this plan did not count.
func refuses(message string, t fleet.Target) bool {
	if m := ofAnotherPlan.FindStringSubmatch(message); m != nil && m[1] != t.Plan {
		return false
	}
	return strings.Contains(message, refusedWords)
}

func refusal(cluster, message string) error {
	return fleet.WithHint(fleet.Forbidden("cluster %s refuses: %s", cluster, message),
		"its own configuration says whose approval counts: the key pinned there, and --approver as that key is named")
}
