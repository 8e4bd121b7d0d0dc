package pybind

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/pool"
	"golang.org/x/sys/unix"
)

// PoolNew makes a pool without workers and returns its number. retries is how often a task that is lost with its worker
// is run again.
func PoolNew(retries int) (int, error) {
	return call("PoolNew", func(e *engine.Engine) (int, error) {
		p, err := pool.New(e)
		if err != nil {
			return 0, err
		}
		p.SetRetries(retries)
		number, err := e.Pools.Put(p)
		return int(number), err
	})
}

// PoolMemoryFD is the descriptor of the memory that the pool shares with its workers. The engine owns it.
func PoolMemoryFD(number int) (int, error) {
	return withPool("PoolMemoryFD", number, func(p *pool.Pool) (int, error) { return p.MemoryFD() })
}

// PoolSlots prepares slots for that many workers about to be started, and returns their numbers with spaces between.
// PoolAdd or PoolDrop must follow for each.
func PoolSlots(number, count int) (string, error) {
	return withPool("PoolSlots", number, func(p *pool.Pool) (string, error) {
		var slots []string
		for range count {
			slot, err := p.Slot()
			if err != nil {
				for _, text := range slots {
					prepared, _ := strconv.Atoi(text)
					p.Drop(prepared)
				}
				return "", err
			}
			slots = append(slots, strconv.Itoa(slot))
		}
		return strings.Join(slots, " "), nil
	})
}

// PoolAdd says that the worker in the slot has been started, and may be given tasks. id is the entry of its process.
// maxTasks is after how many tasks the worker ends by itself, 0 for never.
func PoolAdd(number, slot, id, maxTasks int) (int, error) {
	return withPool("PoolAdd", number, func(p *pool.Pool) (int, error) {
		table := engine.Get().Table
		pid, err := table.Pid(id)
		if err != nil {
			return 0, err
		}
		if err := p.Add(slot, pid, maxTasks, func(signal unix.Signal) { _ = table.Signal(id, int(signal)) }); err != nil {
			return 0, err
		}
		return 0, table.OnExit(id, func(exitCode int) { p.Exited(slot, exitCode) })
	})
}

// PoolDrop gives back a slot whose worker could not be started.
func PoolDrop(number, slot int) (int, error) {
	return withPool("PoolDrop", number, func(p *pool.Pool) (int, error) {
		p.Drop(slot)
		return 0, nil
	})
}

// PoolLimit limits how long task (job, index), which is about to be submitted, may run. 0 removes the limit.
func PoolLimit(number, job, index, microseconds int) (int, error) {
	return withPool("PoolLimit", number, func(p *pool.Pool) (int, error) {
		p.Limit(uint64(job), uint64(index), time.Duration(microseconds)*time.Microsecond)
		return 0, nil
	})
}

// PoolLimitMemory limits how many bytes of private resident memory each task may take; 0 removes the limit.
func PoolLimitMemory(number, bytes int) (int, error) {
	return withPool("PoolLimitMemory", number, func(p *pool.Pool) (int, error) {
		p.LimitMemory(uint64(bytes))
		return 0, nil
	})
}

// PoolCancel withdraws the job's tasks, and ends the workers that run one. It returns how many tasks it has cancelled.
func PoolCancel(number, job int) (int, error) {
	return withPool("PoolCancel", number, func(p *pool.Pool) (int, error) { return p.Cancel(uint64(job)), nil })
}

// PoolCancelAll is PoolCancel for all jobs.
func PoolCancelAll(number int) (int, error) {
	return withPool("PoolCancelAll", number, func(p *pool.Pool) (int, error) { return p.CancelAll(), nil })
}

// PoolWithdraw withdraws the job's tasks that have not begun, and returns how many there were.
func PoolWithdraw(number, job int) (int, error) {
	return withPool("PoolWithdraw", number, func(p *pool.Pool) (int, error) { return p.Withdraw(uint64(job)), nil })
}

// PoolWithdrawAll is PoolWithdraw for all jobs.
func PoolWithdrawAll(number int) (int, error) {
	return withPool("PoolWithdrawAll", number, func(p *pool.Pool) (int, error) { return p.WithdrawAll(), nil })
}

// PoolBegun tells whether a worker has begun a task of the job that is not complete: 1 for yes, 0 for no.
func PoolBegun(number, job int) (int, error) {
	return withPool("PoolBegun", number, func(p *pool.Pool) (int, error) {
		if p.Begun(uint64(job)) {
			return 1, nil
		}
		return 0, nil
	})
}

// PoolRetry sets how often task (job, index), which is about to be submitted, is run again if its worker is lost, as
// Pool.Retry does.
func PoolRetry(number, job, index, retries int) (int, error) {
	return withPool("PoolRetry", number, func(p *pool.Pool) (int, error) {
		p.Retry(uint64(job), uint64(index), retries)
		return 0, nil
	})
}

// PoolTaken says that the program has taken a part of task (job, index), and all that came before it.
func PoolTaken(number, job, index, part int) (int, error) {
	return withPool("PoolTaken", number, func(p *pool.Pool) (int, error) {
		p.Taken(uint64(job), uint64(index), uint32(part))
		return 0, nil
	})
}

// PoolUp is how many workers have come up, and have not ended. A worker has come up when it has waited for a task, or
// claimed one.
func PoolUp(number int) (int, error) {
	return withPool("PoolUp", number, func(p *pool.Pool) (int, error) { return p.Up(), nil })
}

// PoolIdle returns the process ids of the workers that have come up, and have no task, with spaces between them.
func PoolIdle(number int) (string, error) {
	return withPool("PoolIdle", number, func(p *pool.Pool) (string, error) {
		var pids []string
		for _, pid := range p.Idle() {
			pids = append(pids, strconv.Itoa(pid))
		}
		return strings.Join(pids, " "), nil
	})
}

// PoolClose has the pool refuse further tasks. Its workers end when no task is left.
func PoolClose(number int) (int, error) {
	return withPool("PoolClose", number, func(p *pool.Pool) (int, error) {
		p.Close()
		return 0, nil
	})
}

// PoolTerminate has the pool refuse further tasks, and completes all others as cancelled.
func PoolTerminate(number int) (int, error) {
	return withPool("PoolTerminate", number, func(p *pool.Pool) (int, error) {
		p.Terminate()
		return 0, nil
	})
}

// PoolBacklog is how many tasks are queued for workers yet to be added, and how many have been submitted, with a space
// between; since and most are as for Pool.Backlog.
func PoolBacklog(number, since, most int) (string, error) {
	return withPool("PoolBacklog", number, func(p *pool.Pool) (string, error) {
		queued, submitted := p.Backlog(since, most)
		return fmt.Sprintf("%d %d", queued, submitted), nil
	})
}

// PoolPending is how many tasks are queued or in flight.
func PoolPending(number int) (int, error) {
	return withPool("PoolPending", number, func(p *pool.Pool) (int, error) { return p.Pending(), nil })
}

// PoolDestroy frees all that the pool has. Destroying again does nothing.
func PoolDestroy(number int) (int, error) {
	return do("PoolDestroy", func(e *engine.Engine) error {
		e.Pools.Destroy(int64(number))
		return nil
	})
}

func withPool[T any](where string, number int, f func(p *pool.Pool) (T, error)) (T, error) {
	return call(where, func(e *engine.Engine) (T, error) {
		p, err := e.Pools.Get(int64(number))
		if err != nil {
			var none T
			return none, err
		}
		return f(p)
	})
}
