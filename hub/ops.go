package hub

import (
	"context"
	"net/url"
	"time"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// OpsCredentials makes a credentials file with which somebody may ask a hub how
// the fleet is, over NATS. dir holds the hub's keys.
func OpsCredentials(dir, name string, life time.Duration, now time.Time) ([]byte, error) {
	return broker.OpsCredentials(dir, name, life, now)
}

// OpsKey is what such a file is known by.
func OpsKey(creds []byte) (string, error) { return broker.OpsKey(creds) }

// RevokeOps makes such a credential worthless, by its key: see broker.RevokeOps.
func RevokeOps(dir, key string, now time.Time) error { return broker.RevokeOps(dir, key, now) }

// RevokeOpsFile does so by its file.
func RevokeOpsFile(dir string, creds []byte, now time.Time) error {
	return broker.RevokeOpsFile(dir, creds, now)
}

// WriteSecret writes a file that only its owner may read, whole or not at all.
func WriteSecret(path string, data []byte) error { return broker.WriteSecret(path, data) }

// operator is who asks in the account OPS: one who sees everything and changes
// nothing. NATS does not tell the hub which of them it is.
var operator = fleet.Identity{Via: fleet.ViaNATS, Name: "ops", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleViewer}}}}

// opsQueries are what can be asked there.
func opsQueries(q *api.Queries) []broker.Query {
	get := func(path string, given url.Values) func(context.Context, []byte) ([]byte, int) {
		return func(ctx context.Context, params []byte) ([]byte, int) {
			return q.Get(fleet.WithIdentity(ctx, operator), path, params, given)
		}
	}
	return []broker.Query{
		{Name: "clusters", Does: "List clusters, as GET /api/v1/clusters does.", Answer: get("clusters", nil)},
		{Name: "apps", Does: "List apps on each cluster, as GET /api/v1/apps does.", Answer: get("apps", nil)},
		{Name: "pending", Does: "List the apps for which a plan waits.", Answer: get("apps", url.Values{"pending": {"true"}})},
		{Name: "events", Does: "List what people changed, as GET /api/v1/events does.", Answer: get("events", nil)},
		{Name: "changes", Does: "List what changed on clusters, as GET /api/v1/changes does.", Answer: get("changes", nil)},
	}
}
