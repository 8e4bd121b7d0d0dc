# goproc's own: a pool and processes in coroutines. Results are awaited, `async for` takes the results of imap, and the
# task of an await that is given up is ended.
"""
await: 49
gather: 0, 1, 4, 9
async for: 0, 1, 4, 9, 16
given up
exit code: 3
"""

import asyncio
import sys
import time

import goproc


def square(number):
    return number * number


async def main():
    async with goproc.Pool(1) as pool:
        print("await:", await pool.apply_async(square, (7,)))
        results = await asyncio.gather(*(pool.apply_async(square, (number,)) for number in range(4)))
        print("gather:", ", ".join(map(str, results)))
        print("async for:", ", ".join([str(result) async for result in pool.imap(square, range(5))]))

    process = goproc.Process(target=time.sleep, args=(600,))
    process.start()
    try:
        await asyncio.wait_for(process.join_async(), 0.1)
    except asyncio.TimeoutError:
        print("given up")
    process.terminate()
    await process.join_async()

    process = goproc.Process(target=sys.exit, args=(3,))
    process.start()
    await process.join_async()
    print("exit code:", process.exitcode)


if __name__ == "__main__":
    asyncio.run(main())
