package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/capstan-gitops/capstan/agent/render/worker/sops/sopstest"
)

// ageKey is a script's one key: nobody has it until the script gives it away.
type ageKey struct{ private, recipient string }

// failed carries what sopstest has to say.
type failed struct{ err error }

func (f *failed) Fatal(args ...any) {
	f.err = errors.New(fmt.Sprint(args...))
	panic(f)
}

func (p *play) madeKey(f *failed) ageKey {
	if p.age.private == "" {
		p.age.private, p.age.recipient = sopstest.NewKey(f)
	}
	return p.age
}

// seal encrypts a file of the fleet repository.
func (p *play) seal(args []string) (_ string, err error) {
	if len(args) != 1 {
		return "", errUsage
	}
	f := &failed{}
	defer func() {
		if r := recover(); r != nil && r != f {
			panic(r)
		}
		err = errors.Join(err, f.err)
	}()
	key := p.madeKey(f)
	return "", p.change(args[0], func(plain string) (string, error) {
		return sopstest.YAML(f, plain, "^(data|stringData)$", key.recipient), nil
	})
}

// ageKey gives a cluster's agent the key, or takes it away.
func (p *play) ageKey(args []string) (string, error) {
	if len(args) != 2 || p.stage.Spoke(args[0]) == nil {
		return "", errUsage
	}
	file := filepath.Join(p.stage.Spoke(args[0]).AgeKeys(), "key.txt")
	switch args[1] {
	case "add":
		return "", os.WriteFile(file, []byte(p.madeKey(&failed{}).private), 0o600)
	case "remove":
		err := os.Remove(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return "", err
	}
	return "", errUsage
}
