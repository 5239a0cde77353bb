// Package render turns a path of a repository into the objects that are meant
// to run, with kustomize.
//
// A repository is written by others, and kustomize trusts what it reads: it
// fetches URLs, keeps state in globals, and expands YAML without a bound. So it
// runs in a worker, a process of its own that may neither open a connection
// nor start a program, has bounds on memory and time, and is ended when a burst
// of work is over. The worker asks its parent for directories and files by
// their Git hash, and answers with objects and with the set of all it read. The
// parent never parses what a repository holds.
//
//	Renderer  ->  process  =pipe=>  WorkerMain  ->  build  ->  kustomize
//	   |                                |            (treeFS, which records reads)
//	unit.Tree  <====== hashes ======  remoteTree
package render
