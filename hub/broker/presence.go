package broker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxLinks is how many connections one credential may hold at a time. An agent
// uses one; while another process takes over there are two. Those that something
// in between has dropped count until the server notices, after three pingEvery.
const maxLinks = 8

// presence counts who is connected, by the server's own word on it.
type presence struct {
	mu    sync.Mutex
	links map[string]map[linkID]bool // by role and name
}

type linkID struct {
	server string
	client uint64
}

// linkEvent is what the server says when a client comes or goes, as far as it
// matters here.
type linkEvent struct {
	Time   time.Time `json:"timestamp"`
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID     uint64 `json:"id"`
		JWT    string `json:"jwt"`
		Issuer string `json:"issuer_key"`
	} `json:"client"`
}

// watchPresence listens to the server's events of the agents' account.
func (b *Broker) watchPresence(desk Desk) error {
	p := &presence{links: make(map[string]map[linkID]bool)}
	_, err := b.system.Subscribe("$SYS.ACCOUNT."+b.claims.agents.Subject+".*", func(m *nats.Msg) {
		var e linkEvent
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return
		}
		role := b.ring().roles[e.Client.Issuer]
		name, ok := nameIn(e.Client.JWT)
		if !ok || role == "" { // the hub's own
			return
		}
		holder := role + " " + name
		id := linkID{e.Server.ID, e.Client.ID}
		switch {
		case strings.HasSuffix(m.Subject, ".CONNECT"):
			if p.came(holder, id) > maxLinks {
				b.cfg.Log.Warn("cut a connection: its credential holds too many", "holder", holder, "most", maxLinks)
				b.kick(id)
			}
		case strings.HasSuffix(m.Subject, ".DISCONNECT"):
			if p.went(holder, id) && role == agentRole.name {
				b.cfg.Log.Debug("an agent's connection ended", "cluster", name)
				desk.Lost(name, e.Time)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watch connections: %w", err)
	}
	return b.system.Flush()
}

// came counts a connection, and returns how many the holder has.
func (p *presence) came(holder string, id linkID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[holder] == nil {
		p.links[holder] = make(map[linkID]bool)
	}
	p.links[holder][id] = true
	return len(p.links[holder])
}

// went tells whether it was the holder's last connection.
func (p *presence) went(holder string, id linkID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links[holder], id)
	if len(p.links[holder]) > 0 {
		return false
	}
	delete(p.links, holder)
	return true
}

// kick ends a connection.
func (b *Broker) kick(id linkID) {
	// A request without a reply is passed over, so there is one that nobody hears.
	request := fmt.Appendf(nil, `{"cid":%d}`, id.client)
	if err := b.system.PublishRequest("$SYS.REQ.SERVER."+id.server+".KICK", b.system.NewInbox(), request); err != nil {
		b.cfg.Log.Warn("a connection could not be cut", "error", err)
	}
}

// nameIn reads the name out of a JWT that the server has checked already.
func nameIn(token string) (string, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", false
	}
	var c struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, &c) != nil || fleet.ValidateName("name", c.Name) != nil {
		return "", false
	}
	return c.Name, true
}
