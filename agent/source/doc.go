// Package source reads a Git repository as a tree of one commit, without a
// checkout: the newest commit's objects are held in memory, compressed, and a
// fetch brings only what changed since the last one. It is the one home of go-git.
package source
