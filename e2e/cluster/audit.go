package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// auditPolicy notes each request once, when it has been answered.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
`

// Request is one line of the audit log.
type Request struct {
	User        string
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection; or the HTTP verb
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Code        int
	At          time.Time // when it was received
}

// AuditLog is the path of the API server's audit log: one JSON event a line.
func (c *Cluster) AuditLog() string { return c.file("audit.log") }

// Requests returns what user has asked of the API server since a moment. Of a
// watch it knows only when it has ended.
func (c *Cluster) Requests(user string, since time.Time) ([]Request, error) {
	f, err := os.Open(c.AuditLog())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Request
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil // a last line without its end is still being written
		}
		if err != nil {
			return nil, err
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", c.AuditLog(), n, err)
		}
		if e.User.Username == user && !e.Received.Before(since) {
			all = append(all, e.request())
		}
	}
}

type auditEvent struct {
	Verb     string                    `json:"verb"`
	User     struct{ Username string } `json:"user"`
	Received time.Time                 `json:"requestReceivedTimestamp"`
	Object   auditObject               `json:"objectRef"`
	Response struct{ Code int }        `json:"responseStatus"`
}

type auditObject struct {
	APIGroup, Resource, Subresource, Namespace, Name string
}

func (e auditEvent) request() Request {
	return Request{
		User: e.User.Username, Verb: e.Verb, Group: e.Object.APIGroup, Resource: e.Object.Resource,
		Subresource: e.Object.Subresource, Namespace: e.Object.Namespace, Name: e.Object.Name,
		Code: e.Response.Code, At: e.Received,
	}
}
