// Package worker renders: it is what runs in a render worker's process, and the
// one home of kustomize and Helm.
//
// A repository is written by others, and kustomize trusts what it reads: it
// fetches URLs, keeps state in globals, and expands YAML without a bound. So the
// process confines itself before it reads anything: it may neither open a
// connection nor a file nor start a program. What it needs of the repository it
// asks its parent for, by Git hash, and it answers with objects and with the set
// of all it read.
package worker
