// Package wire is what an agent and a hub say to each other: the subjects, and
// the messages in their versioned envelopes.
//
// Both sides treat what they read as written by a stranger. A message has a
// limit on its size and depth, must be the kind that is expected, and is
// checked before it is handed on. Unknown fields in a body are passed over, so
// that agents and hubs of neighbouring releases understand each other; a change
// that they could misunderstand raises Version.
package wire
