package wire

import (
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What an agent may publish and receive is granted by these prefixes, with its
// cluster's name in them: names are DNS labels, so none can widen a subject.
const (
	upPrefix    = "up."
	downPrefix  = "down."
	enrolPrefix = "enroll."
)

// Verbs of up.<cluster>.<verb>.
const (
	VerbStatus    = "status"
	VerbResent    = "resent"
	VerbHeartbeat = "hb"
	VerbIntent    = "intent"
	VerbRenew     = "renew"
	VerbLink      = "link"
)

// GitSubject is where the hub tells every agent that somebody pushed.
const GitSubject = "all.git"

// AllUp and AllEnrol are what the hub listens on; AllHeartbeats what each of
// several hubs does.
const (
	AllUp         = upPrefix + "*.>"
	AllHeartbeats = upPrefix + "*." + VerbHeartbeat
	AllEnrol      = enrolPrefix + "*"
)

// The subjects that the roles' templates grant; {{name()}} is the server's word
// for the name in a user's JWT: a cluster's, or a join's.
const (
	RoleAgentPub   = upPrefix + "{{name()}}.>"
	RoleAgentSub   = downPrefix + "{{name()}}.>"
	RoleAgentAll   = "all.>"
	RoleAgentInbox = "_INBOX_{{name()}}.>"
	RoleJoinPub    = enrolPrefix + "{{name()}}"
	RoleJoinInbox  = "_INBOX_join_{{name()}}.>"
)

// StatusSubject is where an agent reports one app.
func StatusSubject(cluster string, a fleet.AppName) string {
	return upPrefix + cluster + "." + VerbStatus + "." + a.Namespace + "." + a.Name
}

// ResentSubject is where an agent says that it has sent all it has.
func ResentSubject(cluster string) string { return upPrefix + cluster + "." + VerbResent }

// HeartbeatSubject is where an agent says that it lives.
func HeartbeatSubject(cluster string) string { return upPrefix + cluster + "." + VerbHeartbeat }

// IntentGetSubject is where an agent asks for what people want of it.
func IntentGetSubject(cluster string) string { return upPrefix + cluster + "." + VerbIntent + ".get" }

// RenewSubject is where an agent asks for a fresh credential.
func RenewSubject(cluster string) string { return upPrefix + cluster + "." + VerbRenew }

// LinkSubject is where an agent asks where the hub is to be found from now on.
func LinkSubject(cluster string) string { return upPrefix + cluster + "." + VerbLink }

// IntentSubject is where the hub pushes what people want.
func IntentSubject(cluster string) string { return downPrefix + cluster + ".intent" }

// AskSubject is where the hub asks an agent for a plan, a history or a tree.
func AskSubject(cluster string) string { return downPrefix + cluster + ".ask" }

// AllDown is what the hub says to one cluster's agent.
func AllDown(cluster string) string { return downPrefix + cluster + ".*" }

// EnrolSubject is where the holder of a join token enrols.
func EnrolSubject(join string) string { return enrolPrefix + join }

// Inbox is the prefix of the only subjects on which a cluster's agent may be
// answered.
func Inbox(cluster string) string { return "_INBOX_" + cluster }

// JoinInbox is the same for the holder of a join token.
func JoinInbox(join string) string { return "_INBOX_join_" + join }

// Up is a subject below up., taken apart.
type Up struct {
	Cluster string
	Verb    string
	App     fleet.AppName // of a status
}

// ParseUp reads a subject an agent published on. The error is ErrInvalid.
func ParseUp(subject string) (Up, error) {
	t := strings.Split(subject, ".")
	if len(t) < 3 || t[0]+"." != upPrefix {
		return Up{}, fleet.Invalid("subject %q is not one of an agent's", subject)
	}
	u := Up{Cluster: t[1], Verb: t[2]}
	if err := fleet.ValidateName("cluster", u.Cluster); err != nil {
		return Up{}, err
	}
	rest := t[3:]
	switch u.Verb {
	case VerbStatus:
		if len(rest) != 2 {
			break
		}
		app, err := fleet.ParseAppName(rest[0] + "/" + rest[1])
		if err != nil {
			return Up{}, err
		}
		u.App = app
		return u, nil
	case VerbIntent:
		if len(rest) == 1 && rest[0] == "get" {
			return u, nil
		}
	case VerbHeartbeat, VerbRenew, VerbResent, VerbLink:
		if len(rest) == 0 {
			return u, nil
		}
	}
	return Up{}, fleet.Invalid("subject %q is not one of an agent's", subject)
}

// ParseEnrol reads the join's id out of a subject. The error is ErrInvalid.
func ParseEnrol(subject string) (string, error) {
	id, ok := strings.CutPrefix(subject, enrolPrefix)
	if !ok {
		return "", fleet.Invalid("subject %q is not one to enrol on", subject)
	}
	return id, fleet.ValidateName("join", id)
}

// AnswersWithin tells whether a reply subject lies below an inbox. What a
// stranger asks for is only ever answered there: the server lets a publisher
// name any reply subject, and the hub may publish where the agent may not.
func AnswersWithin(reply, inbox string) bool {
	rest, ok := strings.CutPrefix(reply, inbox+".")
	return ok && rest != "" && !strings.ContainsAny(rest, "*> \t\r\n")
}
