package watch

import (
	"cmp"
	"time"
)

// blindness is why a kind can't be listed or watched; guarded by its kindWatch.
type blindness struct {
	listing, watching error
	turned            chan struct{} // closed when it comes or goes
	spells            int           // how often it came
	told              bool
}

func (b *blindness) err() error { return cmp.Or(b.listing, b.watching) }

// blindNow is Blind without regard to how long.
func (k *kindWatch) blindNow() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.blind.err()
}

// blindAfter is how long a kind is not seen before its apps are told: an API
// server that is started anew, or is away for a moment, is none of theirs.
const blindAfter = 5 * time.Second

// listed and watches note how it went to list the kind, and to watch it. A watch
// shows that both work; a list is no answer to whether it can be watched.
func (k *kindWatch) listed(err error) { k.went(func(b *blindness) { b.listing = k.explain(err) }) }

func (k *kindWatch) watches(err error) {
	k.went(func(b *blindness) {
		if b.watching = k.explain(err); err == nil {
			b.listing = nil
		}
	})
}

func (k *kindWatch) went(note func(*blindness)) {
	k.mu.Lock()
	was := k.blind.err()
	note(&k.blind)
	now := k.blind.err()
	tell := false
	if (was == nil) != (now == nil) {
		close(k.blind.turned)
		k.blind.turned = make(chan struct{})
		if now == nil {
			tell, k.blind.told = k.blind.told, false
		} else {
			k.blind.spells++
			spell := k.blind.spells
			time.AfterFunc(blindAfter, func() { k.stillBlind(spell) })
		}
	}
	k.mu.Unlock()
	if tell {
		k.watcher.notify(Event{Ref: k.kind, Blind: true})
	}
}

// stillBlind tells the apps of the kind that it can't be seen, if that spell
// lasts.
func (k *kindWatch) stillBlind(spell int) {
	k.mu.Lock()
	err := k.blind.err()
	lasts := err != nil && k.blind.spells == spell && k.ctx.Err() == nil
	k.blind.told = k.blind.told || lasts
	k.mu.Unlock()
	if lasts {
		k.watcher.log.Warn("a kind can't be watched", "kind", k.kind.Kind, "group", k.kind.Group, "error", err)
		k.watcher.notify(Event{Ref: k.kind, Blind: true})
	}
}
