"""What the Hugging Face toolkit does: ``transformers.pipeline`` behind an ASGI application, one call at a time."""

import asyncio
import io
import os

import torch
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from transformers import pipeline

torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
app = FastAPI()
pipe = pipeline(os.environ["BENCH_TASK"], model=os.environ["BENCH_MODEL"], device="cpu")
turn = asyncio.Semaphore(1)


@app.post("/")
async def root(request: Request) -> list:
    image = Image.open(io.BytesIO(await request.body())).convert("RGB")
    async with turn:
        return await asyncio.to_thread(pipe, image)


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="error")
