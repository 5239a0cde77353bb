package fleet

import "context"

// Role is what somebody may do, where a Grant says.
type Role string

const (
	RoleViewer   Role = "viewer"   // sees clusters, apps, plans and who changed what
	RoleOperator Role = "operator" // sees, and has clusters sync, suspend, resume and roll back
	RoleApprover Role = "approver" // sees, and relays or withholds approvals
	RoleAdmin    Role = "admin"    // all of that, and labels, joins and removes clusters, and makes tokens
	RoleHook     Role = "hook"     // tells of pushes, and sees nothing
)

// Grant gives roles, on the clusters and for the apps it names. Nothing named:
// all of them.
type Grant struct {
	Roles    []Role   `json:"roles"`
	Clusters string   `json:"clusters,omitempty"` // label selector
	Apps     []string `json:"apps,omitempty"`     // "namespace/name", each with * for any part: "team-a/*"
}

// The ways in which somebody is known.
const (
	ViaToken   = "token"   // a line of the hub's token file
	ViaService = "service" // a service token, made by CreateToken
	ViaOIDC    = "oidc"    // an identity provider says so
	ViaNATS    = "nats"    // a credential of the hub's account OPS
)

// Identity is who asks, as the one that checked their credential knows them.
type Identity struct {
	Via    string   `json:"via"`
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Grants come with the credential; what a policy adds is not among them.
	Grants []Grant `json:"grants,omitempty"`
}

type (
	identityKey struct{}
	originKey   struct{}
)

// WithIdentity notes who asks. What is done on ctx is done in that name.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// Who tells who asks; the zero Identity where nobody was authenticated.
func Who(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// WithActor is WithIdentity for one of whom only the name counts.
func WithActor(ctx context.Context, name string) context.Context {
	return WithIdentity(ctx, Identity{Name: name})
}

// Actor tells the name of who asks, or "" where nobody was authenticated (the
// hub itself).
func Actor(ctx context.Context) string { return Who(ctx).Name }

// WithOrigin notes from which address something is asked.
func WithOrigin(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, originKey{}, address)
}

// Origin tells from which address something is asked, or "".
func Origin(ctx context.Context) string {
	a, _ := ctx.Value(originKey{}).(string)
	return a
}
