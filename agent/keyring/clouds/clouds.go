// Package clouds is what runs in capstan-keys: it has data keys decrypted by AWS
// KMS, Google Cloud KMS, Azure Key Vault and HashiCorp Vault, with the clients that
// SOPS' library brings. Which keys may be asked is decided in the agent; nothing
// here reads a repository.
package clouds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
)

// Main answers requests until in ends. What is at work then has nobody to work
// for.
func Main(in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := pipe.Write(out, pipe.Hello{Version: pipe.Version}); err != nil {
		return err
	}
	var writing sync.Mutex
	places := make(chan struct{}, pipe.MaxRequests)
	hide := newHider()
	for {
		var q pipe.Request
		err := pipe.Read(in, &q)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			a := answer(ctx, q, hide)
			writing.Lock()
			defer writing.Unlock()
			_ = pipe.Write(out, a) // who does not read it is gone, and so is in
		}()
	}
}

func answer(ctx context.Context, q pipe.Request, hide hider) pipe.Answer {
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	key, err := decrypt(ctx, q.Key)
	if err == nil && (len(key) == 0 || len(key) > pipe.MaxDataKey) {
		err = &final{fmt.Errorf("what it decrypts to has %d bytes, and is no data key", len(key))}
	}
	if err == nil {
		return pipe.Answer{ID: q.ID, DataKey: key}
	}
	a := explain(ctx, q.Key.Kind, err)
	a.ID, a.Message = q.ID, hide.text(a.Message)
	return a
}
