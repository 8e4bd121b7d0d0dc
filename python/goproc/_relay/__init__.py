"""Behind goproc.logging: log records of child processes reach the main program's loggers.

    a child                                              the main program
    ───────                                              ────────────────
    logger.info() ─▶ Logger.callHandlers (child.py)      Reader's thread (reader.py)
      ─▶ RelayHandler ─▶ encode (records.py)               ─▶ decode ─▶ logging.getLogger(name).handle(record)
           ─▶ WriteEnd.send (channel.py) ══ socket ══▶ ReadEnd.receive

    state.py    the role of this process: none, reading, sending

docs/design/relay.md has the reasons.
"""
