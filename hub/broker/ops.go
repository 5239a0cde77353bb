package broker

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// opsService is the service's name in OPS, and what its subjects begin with.
	opsService  = "capstan"
	opsSubjects = opsService + ".>"
	// opsVersion is the version of what is asked and answered: of the API's v1.
	opsVersion = "1.0.0"

	maxOpsAsk    = 16 << 10 // bytes of a question
	maxOpsAnswer = 1 << 20  // the server's own limit, headers included
	opsHeaders   = 4 << 10  // kept free for those
	// opsInbox begins every subject that is answered to.
	opsInbox = "_INBOX."
	// maxOpsLife is the longest that a credential for OPS may live.
	maxOpsLife = 365 * 24 * time.Hour
)

// Query is one question that OPS may ask, at the subject capstan.NAME.
type Query struct {
	Name string
	Does string // in a sentence
	// Answer returns the body, and the status that HTTP would have for it.
	Answer func(ctx context.Context, params []byte) (body []byte, status int)
}

// ServeOps answers questions in the account OPS, as a NATS micro service. Hubs
// that share servers share the questions.
func (b *Broker) ServeOps(queries []Query) (err error) {
	b.service, err = micro.AddService(b.ops, micro.Config{
		Name: opsService, Version: opsVersion, QueueGroup: queue,
		Description: "Tells how a fleet of clusters is. Questions and answers are those of the hub's HTTP API.",
		Metadata:    map[string]string{"instance": b.instance},
	})
	if err != nil {
		return fmt.Errorf("serve account OPS: %w", err)
	}
	for _, q := range queries {
		err := b.service.AddEndpoint(q.Name, micro.HandlerFunc(func(r micro.Request) { b.answerOps(q, r) }),
			micro.WithEndpointSubject(opsService+"."+q.Name), micro.WithEndpointMetadata(map[string]string{"description": q.Does}))
		if err != nil {
			return fmt.Errorf("serve account OPS: %w", err)
		}
	}
	return b.ops.Flush()
}

func (b *Broker) answerOps(q Query, r micro.Request) {
	if !strings.HasPrefix(r.Reply(), opsInbox) {
		return // nobody who may hear it
	}
	ctx, cancel := context.WithTimeout(b.ctx, answerWithin)
	defer cancel()
	body, status := q.Answer(ctx, r.Data())
	var err error
	if status == http.StatusOK {
		err = r.Respond(body)
	} else {
		err = r.Error(strconv.Itoa(status), http.StatusText(status), body)
	}
	if err != nil {
		b.cfg.Log.Warn("can't answer", "subject", r.Subject(), "error", err)
	}
}

// MaxOpsAnswer is the longest body that can be answered in OPS, in bytes.
const MaxOpsAnswer = maxOpsAnswer - opsHeaders

// OpsCredentials makes a credentials file, as the nats command reads it, with
// which somebody may ask the hub's service in OPS, and nothing else. dir holds
// the keys of the hub. The error is ErrInvalid where it does not, or the
// credential would live too long.
func OpsCredentials(dir, name string, life time.Duration, now time.Time) ([]byte, error) {
	if err := fleet.ValidateName("name", name); err != nil {
		return nil, err
	}
	if life < time.Second || life > maxOpsLife {
		return nil, fleet.Invalid("a credential can't live for %s: between 1s and %s", life, maxOpsLife)
	}
	if _, err := os.Stat(filepath.Join(dir, opsRoleFile)); err != nil {
		return nil, noKeysOfHub(dir, err)
	}
	k, err := readKeyring(dir)
	if err != nil {
		return nil, err
	}
	account, err := k.ops.PublicKey()
	if err != nil {
		return nil, err
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	key, err := user.PublicKey()
	if err != nil {
		return nil, err
	}
	seed, err := user.Seed()
	if err != nil {
		return nil, err
	}
	token, err := credential(k.opsRole, account, key, name, true, life, now)
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}
