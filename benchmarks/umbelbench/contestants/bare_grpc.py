"""What gRPC itself does with the same chunks: one process sends them, another one puts them where they belong.

python -m umbelbench.contestants.bare_grpc serve BYTES TIMES      # prints its address, then seconds a transfer
python -m umbelbench.contestants.bare_grpc send ADDRESS BYTES TIMES
"""

import asyncio
import json
import sys
import time

import grpc.aio

CHUNK = 256 * 1024
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


async def serve(size, times):
    over = asyncio.Event()

    async def take(requests, context):
        for _ in range(times):
            buffer, got, began = memoryview(bytearray(size)), 0, time.perf_counter()
            while got < size:
                chunk = await context.read()
                buffer[got : got + len(chunk)] = chunk
                got += len(chunk)
            print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
            await context.write(b"done")
        over.set()

    server = grpc.aio.server(options=OPTIONS)
    method = grpc.stream_stream_rpc_method_handler(take)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare", {"take": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await over.wait()
    await server.stop(1)


async def send(address, size, times):
    data = memoryview(bytes(CHUNK) * (size // CHUNK) + bytes(size % CHUNK))
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.stream_stream("/bare/take")()
        for _ in range(times):
            for at in range(0, size, CHUNK):
                await call.write(bytes(data[at : at + CHUNK]))
            await call.read()
        await call.done_writing()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3])))
    else:
        asyncio.run(send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
