// Package source reads Git repositories as trees of one commit, without a
// checkout: the newest commit's objects are held in memory, compressed, and a
// fetch brings only what changed since the last one. Of a large repository, the
// files among them are those that were read. It is the one home of go-git.
package source
