// Package engine holds the one engine of this process: the process table, the pools, the clients of the fork server and
// the spawn server, and the counters. Packages pybind and capi reach all of these through it, and closing the engine
// closes them.
package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/prefork"
	"github.com/goproc/goproc/core/process"
)

// Engine has all parts of the engine. Until it is used, it has no goroutine and no descriptor.
type Engine struct {
	Table      *process.Table
	Forkserver *prefork.Client
	Spawner    *prefork.Client // of the spawn server
	Pools      pool.Registry

	tasks, lost, timeouts, retries atomic.Int64
}

// New makes an engine. A process has one, see [Get]; tests make their own.
func New() *Engine {
	table := process.NewTable()
	return &Engine{
		Table:      table,
		Forkserver: prefork.New(table, process.Forkserver),
		Spawner:    prefork.New(table, process.Spawn),
	}
}

// Get is the engine of this process. The first call makes it. A closed engine stays closed: there is no second one.
var Get = sync.OnceValue(New)

// AddTasks counts tasks that pools have done.
func (e *Engine) AddTasks(n int64) { e.tasks.Add(n) }

// AddLost counts workers that pools have lost.
func (e *Engine) AddLost(n int64) { e.lost.Add(n) }

// AddTimeouts counts tasks that were over their limit.
func (e *Engine) AddTimeouts(n int64) { e.timeouts.Add(n) }

// AddRetries counts tasks that are run again, since they were lost with their worker.
func (e *Engine) AddRetries(n int64) { e.retries.Add(n) }

// Server is the client of the server for a start method. It fails for a method that has no server.
func (e *Engine) Server(method string) (*prefork.Client, error) {
	switch method {
	case process.Forkserver.String():
		return e.Forkserver, nil
	case process.Spawn.String():
		return e.Spawner, nil
	}
	return nil, fmt.Errorf("%w: no server for the start method %q", process.ErrInvalid, method)
}

// Stats is what the engine has done.
type Stats struct {
	Started  map[string]int64 `json:"started"`  // processes, by start method
	Tasks    int64            `json:"tasks"`    // done by pools
	Lost     int64            `json:"lost"`     // workers of pools
	Timeouts int64            `json:"timeouts"` // tasks that were over their limit
	Retries  int64            `json:"retries"`  // tasks that were run again
	Running  int              `json:"running"`  // processes that have not ended
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	started := map[string]int64{}
	for _, m := range []process.Method{process.Fork, process.Spawn, process.Forkserver} {
		started[m.String()] = e.Table.Started(m)
	}
	return Stats{
		Started: started, Tasks: e.tasks.Load(), Lost: e.lost.Load(), Timeouts: e.timeouts.Load(), Retries: e.retries.Load(),
		Running: e.Table.Running(),
	}
}

// Close stops all goroutines of the engine, closes all its descriptors, and ends the fork server and the spawn server.
// The program's own processes go on. Closing again does nothing.
func (e *Engine) Close() error {
	e.Pools.Close()
	return errors.Join(e.Forkserver.Stop(), e.Spawner.Stop(), e.Table.Close())
}
