package reconcile

import (
	"k8s.io/client-go/util/workqueue"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// newWork makes the queue of apps to look at. The root, which says what is wanted,
// waits behind no app.
func newWork(root fleet.AppName) workqueue.TypedDelayingInterface[fleet.AppName] {
	line := &line{first: root, Queue: workqueue.DefaultQueue[fleet.AppName]()}
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[fleet.AppName]{Queue: line})
	return workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[fleet.AppName]{Queue: queue})
}

// line is a queue in which one goes before all others.
type line struct {
	first fleet.AppName
	waits bool // it does
	workqueue.Queue[fleet.AppName]
}

func (l *line) Push(name fleet.AppName) {
	if name == l.first {
		l.waits = true
		return
	}
	l.Queue.Push(name)
}

func (l *line) Len() int {
	n := l.Queue.Len()
	if l.waits {
		n++
	}
	return n
}

func (l *line) Pop() fleet.AppName {
	if l.waits {
		l.waits = false
		return l.first
	}
	return l.Queue.Pop()
}
