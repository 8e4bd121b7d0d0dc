"""Classes of the program's own that pickle their memory as a PickleBuffer, and look at what they get back."""

PROGRAM = '''
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor

class Own(bytearray):
    """It looks at the object that has the memory, like the example class in pickle's documentation."""

    def __reduce_ex__(self, protocol):
        return rebuilt, (type(self), pickle.PickleBuffer(self) if protocol >= 5 else bytearray(self))

class OwnBytes(bytes):
    def __reduce_ex__(self, protocol):
        return rebuilt, (type(self), pickle.PickleBuffer(self) if protocol >= 5 else bytes(self))

class Holder:
    """It keeps what it gets."""

    def __init__(self, kept):
        self.kept = kept

    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.kept) if protocol >= 5 else self.kept,)

def rebuilt(kind, buffer):
    with memoryview(buffer) as view:
        owner = view.obj
    return owner if type(owner) is kind else kind(owner)

def look(value):
    kept = value.kept if isinstance(value, Holder) else value
    return type(value).__name__, type(kept).__name__, len(kept), bytes(kept[:2]), bytes(kept[-2:])

def same(value):
    return value

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for size in 10, 40_000, 200_000, 3_000_000:
        content = b"ab" + bytes(size) + b"yz"
        for value in Own(content), OwnBytes(content), Holder(bytearray(content)), Holder(content):
            with context.Pool(1) as pool:
                print(pool.apply(look, (value,)), look(pool.apply(same, (value,))), pool.map(look, [value] * 2))
            with ProcessPoolExecutor(1, mp_context=context) as executor:
                print(executor.submit(look, value).result(), look(executor.submit(same, value).result()))
            queue = context.Queue()
            queue.put((value, [value]))
            print(look(queue.get()[0]))
'''


def test_what_they_get_back(run_script, tmp_path, method):
    (tmp_path / "program.py").write_text(PROGRAM)
    plain, own = (run_script(*way, tmp_path / "program.py", method) for way in ([], ["-m", "goproc", "--futures"]))
    assert own.stdout == plain.stdout
    assert own.stderr == plain.stderr == ""


SHARED = (
    PROGRAM.partition("if __name__")[0]
    + """
if __name__ == "__main__":
    import goproc

    content = b"ab" + bytes(200_000) + b"yz"
    with goproc.Pool(1) as pool:
        for value in Own(content), OwnBytes(content), Holder(bytearray(content)):
            with goproc.share(value) as handle:
                assert pool.apply(look, (handle,)) == look(value) == look(handle.get())
"""
)


def test_what_they_get_back_if_they_are_shared(run_script, tmp_path):
    (tmp_path / "program.py").write_text(SHARED)
    run_script(tmp_path / "program.py")
