// Package pipe is what the agent and a render worker say to each other: frames
// with a length and a kind, and what each kind holds. The agent sends jobs; the
// worker asks for what it needs to read, and answers with an outcome.
//
// Both sides read what the other may have been made to write, so every length is
// checked against what is there before anything is made for it.
package pipe

// Version says what renders, for read-sets: one of another version does not
// hold. The number after the slash is our own, raised when the same files come
// to give other objects.
const Version = "kustomize v0.21.2, helm v4.3.1/5"
