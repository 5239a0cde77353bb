package gitserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Webhook is what is called after a push: POST with a JSON body
// {"repository":{"url":...},"ref":...}, once for each ref that moved.
type Webhook struct {
	URL   string // empty: nothing is called
	Token string // sent as bearer token; empty: none
}

const hookWithin = 5 * time.Second

// hooks makes the calls aside, so that a push never waits for them.
type hooks struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	target Webhook
}

func (h *hooks) start(target Webhook, log *slog.Logger) {
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.target, h.log = target, log
}

func (h *hooks) stop() {
	h.cancel()
	h.all.Wait()
}

func (h *hooks) set(target Webhook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.target = target
}

func (h *hooks) call(repository, ref string) {
	h.mu.Lock()
	target := h.target
	h.mu.Unlock()
	if target.URL == "" {
		return
	}
	h.all.Go(func() {
		// As with any forge, a call that fails is lost: receivers poll as well.
		if err := post(h.ctx, target, repository, ref); err != nil {
			h.log.Warn("webhook failed", "url", target.URL, "error", err)
		}
	})
}

type pushed struct {
	Repository struct {
		URL string `json:"url"`
	} `json:"repository"`
	Ref string `json:"ref"`
}

func post(ctx context.Context, target Webhook, repository, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, hookWithin)
	defer cancel()
	event := pushed{Ref: ref}
	event.Repository.URL = repository
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if target.Token != "" {
		req.Header.Set("Authorization", "Bearer "+target.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
