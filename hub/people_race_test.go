package hub_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Of several who make a token of one name at the same time, at several hubs
// perhaps, one gets a token that is good, and the others are told.
func TestOneOfThoseWhoMakeTheSameTokenMakesIt(t *testing.T) {
	g := guard(t)
	ctx := fleet.WithIdentity(t.Context(), fleet.Identity{Via: fleet.ViaToken, Name: "root", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleAdmin}}}})
	request := fleet.TokenRequest{Name: "ci", TTL: "1h", Grant: fleet.Grant{Roles: []fleet.Role{fleet.RoleViewer}}}
	for range 50 {
		var all sync.WaitGroup
		got := make(chan fleet.TokenGrant, 8)
		for range cap(got) {
			all.Go(func() {
				made, err := g.people.CreateToken(ctx, request)
				switch {
				case err == nil:
					got <- made
				case !errors.Is(err, fleet.ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(got) != 1 {
			t.Fatalf("%d have made it", len(got))
		}
		if id, err := g.people.Authenticate(t.Context(), (<-got).Secret); err != nil || id.Name != "ci" {
			t.Errorf("the one that was made: %+v, %v", id, err)
		}
		g.now = g.now.Add(2 * time.Hour) // it has expired, and its name is free
	}
}
