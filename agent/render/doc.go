// Package render turns a path of a repository into the objects that are meant
// to run.
//
// A repository is written by others. So what reads it is a worker, a process of
// its own that has bounds on memory and time, and is ended when a burst of work
// is over. The worker asks for directories and files by their Git hash, and
// answers with objects and with the set of all it read. This side never parses
// what a repository holds, and links nothing that does.
//
//	Renderer  ->  process  =pipe=>  worker.Main  ->  build  ->  kustomize
//	   |                                |            (treeFS, which records reads)
//	unit.Tree  <====== hashes ======  remoteTree
package render
