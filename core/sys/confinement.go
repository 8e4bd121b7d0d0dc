package sys

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Seccomp filters and Landlock domains belong to a thread. The kernel shows only how many filters there are, and
// nothing of the domain. Filters can only be added, and a domain can only be left for one below it. A new thread or
// process has those of the thread that made it. A server may fork a child for the calling thread only if server and
// thread certainly have the same filters and the same domain.
//
// The filters are certainly the same in three cases:
//   - there are none;
//   - there are as many as when the process had one thread: all threads come from that one, and have its filters;
//   - there are as many as before on the same thread.
//
// The domain is certainly the same in three cases:
//   - The thread may look into its parent process, in the sense of ptrace(2). Landlock allows that only if the parent
//     is in the same domain as the thread, or in one below. The thread is in the domain in which the process began, or
//     in one below. So it is in the domain in which the process began. (The parent cannot be in a domain that this
//     process has entered since.)
//   - No thread could enter a domain: that takes no_new_privs, or CAP_SYS_ADMIN in the thread's user namespace.
//   - The thread is the one that started the server, and may look into the server.
//
// If it is not certain, the calling thread executes an interpreter.

// origin is what the process had when the engine was loaded.
var origin atomic.Pointer[originally]

type originally struct {
	alone      bool   // there was one thread
	filters    string // the number of its seccomp filters
	powerless  bool   // it could enter no Landlock domain without setting no_new_privs
	landlock   bool   // the kernel has Landlock, as far as can be seen
	userSpaces string // its user namespace
}

const adminCapability = 21 // CAP_SYS_ADMIN

// NoteOrigin notes what the process had before the engine was loaded, because loading starts threads. content is what
// /proc/self/status said then. The thread that has loaded the engine calls it.
func NoteOrigin(content string) {
	status := parseStatus(content)
	o := &originally{alone: status["Threads"] == "1", filters: status["Seccomp_filters"], landlock: hasLandlock()}
	permitted, err := strconv.ParseUint(status["CapPrm"], 16, 64)
	o.powerless = err == nil && permitted>>adminCapability&1 == 0 && status["NoNewPrivs"] == "0"
	o.userSpaces, _ = os.Readlink("/proc/thread-self/ns/user")
	origin.Store(o)
}

// hasLandlock asks the kernel for the version of Landlock.
func hasLandlock() bool {
	const createRuleset, version = 444, 1
	_, _, errno := unix.RawSyscall(createRuleset, 0, 0, version)
	return errno == 0
}

// readConfinement is the part of ReadCircumstances for filters and domain. If the texts of thread and server are equal,
// they have the same filters and domain. If proof is true, that is so for the domain only if SharesDomain is true, too.
func readConfinement(t thread, status map[string]string, userSpace string) (text string, proof bool, err error) {
	o := origin.Load()
	if o == nil {
		o = &originally{landlock: true}
	}
	owns := false // the thread's own filters or domain may differ from another thread's
	switch filters, known := status["Seccomp_filters"]; {
	case status["Seccomp"] == "" || status["Seccomp"] == "0":
	case !known || filters != o.filters:
		return "", false, fmt.Errorf("%w: the seccomp filters of this thread", ErrIncomparable)
	default:
		owns = !o.alone
	}
	text = "domain of the process"
	cannotEnter := !o.landlock && (o.alone || o.filters == "0") ||
		o.alone && o.powerless && status["NoNewPrivs"] == "0" && userSpace == o.userSpaces
	if !cannotEnter && !mayLookInto(unix.Getppid()) {
		owns, proof = true, true
	}
	if owns {
		id, err := t.id()
		if err != nil {
			return "", false, fmt.Errorf("%w: %w", ErrIncomparable, err)
		}
		text = "domain of thread " + id
	}
	return text, proof, nil
}

// SharesDomain reports whether the process, which the calling thread has started, is in the Landlock domain that the
// thread is in now.
func SharesDomain(pid int) bool { return mayLookInto(pid) }

// mayLookInto reports whether the calling thread may read from the process, in the sense of ptrace(2). The kernel
// checks just that for get_robust_list(2). It is false if that cannot be found out.
func mayLookInto(pid int) bool {
	if pid <= 0 { // the parent is in another namespace of processes
		return false
	}
	var head, size uintptr
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(pid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	return errno == 0
}
