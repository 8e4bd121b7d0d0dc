"""aiomultiprocess: a pool whose processes run several coroutines at a time each, and single processes."""

import asyncio
import multiprocessing

import aiomultiprocess


async def square(number):
    await asyncio.sleep(0.001)
    return number * number


async def refuse(number):
    raise ValueError(f"not {number}")


async def work():
    async with aiomultiprocess.Pool(processes=2, childconcurrency=8) as pool:
        print(await pool.map(square, range(20)))
        print(sum([value async for value in pool.map(square, range(10))]))
        print(await pool.starmap(square, [(n,) for n in range(4)]), await pool.apply(square, (9,)))
        try:
            await pool.apply(refuse, (3,))
        except Exception as error:
            print(type(error).__name__, "not 3" in str(error))
    worker = aiomultiprocess.Worker(target=square, args=(7,))
    print(await worker)


def main():
    aiomultiprocess.set_start_method(multiprocessing.get_start_method())
    asyncio.run(work())


if __name__ == "__main__":
    main()
