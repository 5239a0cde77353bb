package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// knownAgents is a file with the keys by which agents sign plans, pinned when
// they were first seen, as ssh does with hosts. A hub can't put another key in
// an agent's place without being noticed. Each line is:
//
//	HUB CLUSTER CLUSTER-UID KEY
type knownAgents struct{ path string }

// knownAgentsFile is CAPSTAN_KNOWN_AGENTS, or a file in the user's
// configuration directory.
func (s *shell) knownAgentsFile() (knownAgents, error) {
	if path := s.env("CAPSTAN_KNOWN_AGENTS"); path != "" {
		return knownAgents{path}, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return knownAgents{}, fleet.WithHint(fmt.Errorf("known agents: %w", err), "name a file in CAPSTAN_KNOWN_AGENTS")
	}
	return knownAgents{filepath.Join(dir, "capstan", "known_agents")}, nil
}

// recognition says how an agent's key was known.
type recognition string

const (
	recognized recognition = "pinned key"
	firstSeen  recognition = "key pinned just now"
	// rebuilt: a cluster of that name was known, and had another UID.
	rebuilt recognition = "key pinned just now, of a cluster that is new under this name"
)

// recognize compares an agent's key with the pinned one, or pins it.
func (k knownAgents) recognize(hub, cluster, uid, key string) (recognition, error) {
	data, err := os.ReadFile(k.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("known agents: %w", err)
	}
	how := firstSeen
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 4 {
			return "", fleet.WithHint(fmt.Errorf("%s:%d: this is not a pinned key", k.path, number),
				"a line is: HUB CLUSTER CLUSTER-UID KEY")
		}
		if f[0] != hub || f[1] != cluster {
			continue
		}
		if f[2] != uid {
			how = rebuilt
			continue
		}
		if f[3] == key {
			return recognized, nil
		}
		return "", fleet.WithHint(
			fmt.Errorf("the key of cluster %s's agent has changed: the plan is signed by %s, pinned is %s", cluster, key, f[3]),
			fmt.Sprintf("if the agent was installed anew, take line %d out of %s; if not, do not trust what this hub shows", number, k.path))
	}
	return how, k.add(data, strings.Join([]string{hub, cluster, uid, key}, " ")+"\n")
}

func (k knownAgents) add(before []byte, line string) (err error) {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("known agents: %w", err)
	}
	if n := len(before); n > 0 && before[n-1] != '\n' {
		line = "\n" + line
	}
	// Appending in one write keeps two commands from undoing each other.
	f, err := os.OpenFile(k.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("known agents: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("known agents: %w", err)
	}
	return nil
}
