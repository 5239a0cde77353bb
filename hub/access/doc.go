// Package access decides who may do what: a subject, an action, a resource in;
// yes, or no with the reason, out. It does no I/O and keeps no state.
package access
