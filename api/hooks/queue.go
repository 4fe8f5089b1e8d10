package hooks

import "sync"

// A queue sends requests: those of one stream to one service in order, others
// beside them.
type queue struct {
	do   func(request) // sends one
	most int           // that may wait

	mu     sync.Mutex
	lanes  map[laneKey]*lane
	size   int
	closed bool
	active sync.WaitGroup
}

type laneKey struct{ stream, service string }

// A lane has a goroutine as long as there is something in it.
type lane struct{ jobs []job }

// A job is a request, or who waits for those before it.
type job struct {
	request
	done chan struct{}
}

// put queues a request, and reports whether there was room.
func (q *queue) put(r request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.size >= q.most {
		return false
	}
	key := laneKey{r.stream, service(r.url)}
	l := q.lanes[key]
	if l == nil {
		if q.lanes == nil {
			q.lanes = make(map[laneKey]*lane)
		}
		l = &lane{}
		q.lanes[key] = l
		q.active.Go(func() { q.run(key, l) })
	}
	l.jobs = append(l.jobs, job{request: r})
	q.size++
	return true
}

// barriers returns channels that are closed when what there is of a stream now
// has been sent.
func (q *queue) barriers(stream string) (all []chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, l := range q.lanes {
		if key.stream == stream {
			done := make(chan struct{})
			l.jobs = append(l.jobs, job{done: done})
			all = append(all, done)
		}
	}
	return all
}

func (q *queue) run(key laneKey, l *lane) {
	for {
		q.mu.Lock()
		if len(l.jobs) == 0 {
			delete(q.lanes, key)
			q.mu.Unlock()
			return
		}
		j := l.jobs[0]
		l.jobs[0] = job{}
		l.jobs = l.jobs[1:]
		q.mu.Unlock()
		if j.done != nil {
			close(j.done)
			continue
		}
		q.do(j.request)
		q.mu.Lock()
		q.size--
		q.mu.Unlock()
	}
}

// close takes no more, and returns a channel that is closed when all is sent.
func (q *queue) close() <-chan struct{} {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	empty := make(chan struct{})
	go func() {
		q.active.Wait()
		close(empty)
	}()
	return empty
}
