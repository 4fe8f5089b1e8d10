package turn

import "time"

// workerLinger is how long a worker waits for more work.
const workerLinger = 5 * time.Second

// work runs f in a goroutine, one of an earlier call if it has nothing to do:
// its stack has grown already, which is a tenth of what an allocation costs.
func (s *Server) work(f func()) {
	select {
	case s.workers <- f:
	default:
		s.serving.Go(func() { s.worker(f) })
	}
}

func (s *Server) worker(f func()) {
	idle := time.NewTimer(workerLinger)
	defer idle.Stop()
	for {
		f()
		idle.Reset(workerLinger)
		select {
		case f = <-s.workers:
		case <-idle.C:
			return
		case <-s.done:
			return
		}
	}
}
