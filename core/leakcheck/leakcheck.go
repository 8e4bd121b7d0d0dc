// Package leakcheck fails a package's tests when they leave a goroutine, a descriptor of the engine, or a child process
// behind. The TestMain of every package of the engine calls it.
package leakcheck

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// patience is how long goroutines and processes may take to end. A goroutine that has said that it is done is still
// there for a moment.
const patience = 2 * time.Second

// Main runs the tests and returns the exit code, 1 also when something is left.
func Main(m *testing.M) int {
	code := m.Run()
	if left := Settled(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind by the tests:\n%s\n", strings.Join(left, "\n"))
		return 1
	}
	return code
}

// Settled waits until nothing is left, at most for patience, and returns what is left then.
func Settled() []string {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if left := Left(); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// Left lists what is left now: the engine's open descriptors, goroutines other than the caller's and the testing
// package's, and "a child process" if there is one.
func Left() []string {
	left := sys.Open()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for i, goroutine := range strings.Split(string(stacks), "\n\n") {
		ours := strings.Contains(goroutine, "/core/") || strings.Contains(goroutine, "/pybind/")
		waiting := strings.Contains(goroutine, "testing.(*T).Run") || strings.Contains(goroutine, "testing.tRunner")
		if i > 0 && ours && !waiting {
			left = append(left, goroutine)
		}
	}
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		left = append(left, "a child process")
	}
	return left
}
