// Package fleet holds the words Capstan is described in: clusters, apps,
// revisions, digests, plans, gates, approvals, sync and health.
//
// Everything else in the project speaks these words: the agent reports them,
// the hub folds them into a view, the API, the CLI and the page print them.
// The package knows no technology. It imports the standard library alone and
// does no I/O; that is checked by a test.
package fleet
