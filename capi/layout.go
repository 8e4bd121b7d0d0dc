package capi

// #include <stddef.h>
// #include "goproc.h"
// #include "native/layout.h"
//
// // cgo does not see members of atomic types, nor macros in 64 bits.
// enum {
//     off_waiting = offsetof(goproc_control, waiting),
//     off_doorbell = offsetof(goproc_control, doorbell),
//     off_pump = offsetof(goproc_control, pump),
//     off_spin_ns = offsetof(goproc_control, spin_ns),
//     off_watch_bell = offsetof(goproc_control, watch_bell),
//     off_task_tail = offsetof(goproc_slot, task_tail),
//     off_result_head = offsetof(goproc_slot, result_head),
//     off_stop = offsetof(goproc_slot, stop),
//     off_parts_taken = offsetof(goproc_slot, parts_taken),
//     off_task_head = offsetof(goproc_slot, task_head),
//     off_result_tail = offsetof(goproc_slot, result_tail),
//     off_sleeping = offsetof(goproc_slot, sleeping),
//     off_bell = offsetof(goproc_slot, bell),
//     off_current_job = offsetof(goproc_slot, current_job),
//     off_current_index = offsetof(goproc_slot, current_index),
//     off_started_ns = offsetof(goproc_slot, started_ns),
//     off_base_bytes = offsetof(goproc_slot, base_bytes),
//     off_size = offsetof(goproc_frame, size),
//     off_kind = offsetof(goproc_frame, kind),
//     off_flags = offsetof(goproc_frame, flags),
//     off_job = offsetof(goproc_frame, job),
//     off_index = offsetof(goproc_frame, index),
//     off_claim = offsetof(goproc_frame, claim),
//     off_busy_us = offsetof(goproc_frame, busy_us),
//     size_of_frame = sizeof(goproc_frame),
//     size_of_extent = sizeof(goproc_extent),
//     size_of_seat = sizeof(goproc_seat),
//     off_seats = offsetof(goproc_seats, seats),
//     off_refused = offsetof(goproc_seats, refused),
//     off_epoll = offsetof(goproc_seats, epoll),
//     off_highest = offsetof(goproc_seats, highest),
//     off_processes_started = offsetof(goproc_seats, started),
//     off_seat_state = offsetof(goproc_seat, state),
//     off_generation = offsetof(goproc_seat, generation),
//     off_pid = offsetof(goproc_seat, pid),
//     off_sentinel = offsetof(goproc_seat, sentinel),
//     off_mark = offsetof(goproc_seat, mark),
//     off_witness = offsetof(goproc_seats, witness),
//     off_witness_mark = offsetof(goproc_seats, mark),
//     off_status = offsetof(goproc_seat, status),
//     off_adopted = offsetof(goproc_seat, adopted),
//     off_forgotten = offsetof(goproc_seat, forgotten),
// };
//
// static uint64_t extents_start(void) { return GOPROC_EXTENTS_START; }
// static uint64_t memory_size(void) { return GOPROC_MEMORY_SIZE; }
// static uint64_t no_job(void) { return GOPROC_NO_JOB; }
// static uint64_t frame_space(uint64_t size) { return goproc_frame_space(size); }
import "C"

// layoutOfC has the numbers of native/layout.h and goproc.h, for the tests that compare them with package ring and
// package process. It is here because cgo cannot be used in tests.
func layoutOfC() map[string]int64 {
	return map[string]int64{
		"seat size":       C.size_of_seat,
		"seats":           C.off_seats,
		"seats refused":   C.off_refused,
		"seats epoll":     C.off_epoll,
		"seats highest":   C.off_highest,
		"seats started":   C.off_processes_started,
		"seat count":      C.GOPROC_SEAT_COUNT,
		"seat state":      C.off_seat_state,
		"seat generation": C.off_generation,
		"seat pid":        C.off_pid,
		"seats witness":   C.off_witness,
		"seats mark":      C.off_witness_mark,
		"seat sentinel":   C.off_sentinel,
		"seat mark":       C.off_mark,
		"seat status":     C.off_status,
		"seat adopted":    C.off_adopted,
		"seat forgotten":  C.off_forgotten,
		"seat free":       C.GOPROC_SEAT_FREE,
		"seat running":    C.GOPROC_SEAT_RUNNING,
		"seat ended":      C.GOPROC_SEAT_ENDED,
		"seat taken":      C.GOPROC_SEAT_TAKEN,
		"status unknown":  C.GOPROC_STATUS_UNKNOWN,

		"page size":     C.GOPROC_PAGE_SIZE,
		"ring size":     C.GOPROC_RING_SIZE,
		"slot size":     C.GOPROC_SLOT_SIZE,
		"slots start":   C.GOPROC_SLOTS_START,
		"max inline":    C.GOPROC_MAX_INLINE,
		"header size":   C.size_of_frame,
		"extent size":   C.size_of_extent,
		"memory size":   int64(C.memory_size()),
		"extents start": int64(C.extents_start()),

		"waiting collector": C.GOPROC_WAITING_COLLECTOR,
		"waiting feed":      C.GOPROC_WAITING_FEED,
		"waiting drain":     C.GOPROC_WAITING_DRAIN,
		"waiting watch":     C.GOPROC_WAITING_WATCH,
		"sleep tasks":       C.GOPROC_SLEEP_TASKS,
		"sleep room":        C.GOPROC_SLEEP_ROOM,
		"sleep taken":       C.GOPROC_SLEEP_TAKEN,
		"parts ahead":       C.GOPROC_PARTS_AHEAD,
		"claim shift":       C.GOPROC_CLAIM_SHIFT,

		"kind pad":       C.GOPROC_KIND_PAD,
		"kind task":      C.GOPROC_KIND_TASK,
		"kind result":    C.GOPROC_KIND_RESULT,
		"kind failure":   C.GOPROC_KIND_FAILURE,
		"kind lost":      C.GOPROC_KIND_LOST,
		"kind cancelled": C.GOPROC_KIND_CANCELLED,
		"kind timeout":   C.GOPROC_KIND_TIMEOUT,
		"kind exited":    C.GOPROC_KIND_EXITED,
		"kind retried":   C.GOPROC_KIND_RETRIED,
		"kind memory":    C.GOPROC_KIND_MEMORY,
		"kind part":      C.GOPROC_KIND_PART,
		"flag extent":    C.GOPROC_FLAG_EXTENT,
		"flag keep":      C.GOPROC_FLAG_KEEP,
		"no job":         int64(C.no_job()),

		"waiting":       C.off_waiting,
		"doorbell":      C.off_doorbell,
		"pump":          C.off_pump,
		"spin":          C.off_spin_ns,
		"watch bell":    C.off_watch_bell,
		"task tail":     C.off_task_tail,
		"result head":   C.off_result_head,
		"stop":          C.off_stop,
		"parts taken":   C.off_parts_taken,
		"task head":     C.off_task_head,
		"result tail":   C.off_result_tail,
		"sleeping":      C.off_sleeping,
		"bell":          C.off_bell,
		"current job":   C.off_current_job,
		"current index": C.off_current_index,
		"started":       C.off_started_ns,
		"base":          C.off_base_bytes,

		"frame's size":  C.off_size,
		"frame's kind":  C.off_kind,
		"frame's flags": C.off_flags,
		"frame's job":   C.off_job,
		"frame's index": C.off_index,
		"frame's claim": C.off_claim,
		"frame's busy":  C.off_busy_us,
	}
}

// frameSpaceOfC calls goproc_frame_space.
func frameSpaceOfC(size int) uint64 { return uint64(C.frame_space(C.uint64_t(size))) }
