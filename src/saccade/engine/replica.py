"""An opened model and its threads: jobs in, answers out; the same in the server's process, in a worker and under Ray.

Every thread takes a job through decode → prepare → run → read, so that a bad image fails alone. On a processor as many
run side by side as there are streams; on a graphics card their tensors meet in the batcher.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from saccade import media
from saccade.call import Answer, Clip, Options
from saccade.card import Card
from saccade.engine.batcher import Batcher
from saccade.engine.files import Files, check_same
from saccade.engine.golden import blindness, scene, sight
from saccade.engine.hands import Hands
from saccade.engine.job import Answering, Done, End, Failed, Frame, Job
from saccade.engine.pace import measured, recall, remember
from saccade.errors import CallError, Changed, DeadlinePassed, Error, RunFailed, place, short_of
from saccade.media import Limits
from saccade.model import Model, timed
from saccade.results import ByteArray
from saccade.runtimes.session import Compute

log = logging.getLogger("saccade.engine")

LOOKAHEAD = 1
"""Jobs that wait inside the replica, so that a thread finds the next one without asking."""


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """How a replica works. ``max_batch`` 0: measured, at most ``largest_batch``. ``hands`` 0: one thread more than
    streams, or two per place in a batch. ``files`` are those that the Card tells of; with others nothing is opened."""

    limits: Limits = Limits()
    max_batch: int = 1
    largest_batch: int = 16
    hands: int = 0
    files: Files | None = None


@dataclass(slots=True)
class Task:
    """A job inside the replica."""

    job: Job
    data: bytes
    answering: Answering
    received: float
    deadline: float | None
    credit: threading.Semaphore | None = None
    """Frames that a video may still send."""
    cancelled: bool = False
    decoding_since: float | None = None

    def wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.cancelled and (self.deadline is None or time.monotonic() < self.deadline)


class Replica:
    """Opens the model, warms it up, and answers jobs until it is closed. All methods may be called from any thread."""

    def __init__(self, card: Card, compute: Compute, duty: Duty) -> None:
        """Takes as long as the model takes to open and to answer its first picture.

        Raises:
            ModelError, SetupError: the model cannot be opened, or fails on a plain picture.
            Changed: its files are others by now.
        """
        self.model = _opened(card, compute, duty.files)
        self._limits = duty.limits
        self._batcher: Batcher | None = None
        self._window = max(1, compute.streams)
        self._tasks: dict[int, Task] = {}
        self._answered = False
        self._golden = scene()
        try:
            self._sight = self._warmed(self._window if compute.hasty else self._window + 1)
            self.batch = self._best_batch(compute, duty)
        except BaseException:
            self._shut()
            raise
        if self.batch > 1:
            self._batcher = Batcher(self.model.run, self.batch, runners=self._window)
        count = duty.hands or (2 * self.batch if self.batch > 1 else self._window + 1)
        self.slots = count + LOOKAHEAD
        self._hands: Hands[Task] = Hands(count, self._answer, f"look-{card.name}")
        # The same for all videos: infer requests keep their memory, and there are as many as ever ran side by side.
        at_once = count if self.batch > 1 else self._window
        self._frame_hands = ThreadPoolExecutor(at_once, thread_name_prefix=f"frame-{card.name}")

    def submit(self, job: Job, data: bytes, answering: Answering) -> None:
        """Answers the job from another thread: once with Done, Failed or End, or with Frames before that for a clip."""
        now = time.monotonic()
        deadline = None if job.left_s is None else now + job.left_s
        credit = None if job.clip is None else threading.Semaphore(job.credit)
        self._tasks[job.id] = task = Task(job, data, answering, now, deadline, credit)
        if credit is None:
            self._hands.give(task)
            return
        try:
            threading.Thread(target=self._answer, args=(task,), name=f"clip-{job.id}", daemon=True).start()
        except RuntimeError as error:
            del self._tasks[job.id]
            answering(Failed(job.id, short_of(error) or RunFailed("A video cannot be begun now. Try again.")))

    def cancel(self, job_id: int) -> None:
        """The caller has left: a job that has not begun is put away, a video ends after the current frame."""
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancelled = True
            if task.credit is not None:
                task.credit.release()

    def grant(self, job_id: int, frames: int) -> None:
        """Lets a video go on by so many frames."""
        task = self._tasks.get(job_id)
        if task is not None and task.credit is not None and frames > 0:
            task.credit.release(frames)

    @property
    def idle(self) -> bool:
        """Whether no job is here."""
        return not self._tasks

    def answered_since_trim(self) -> bool:
        """Whether a job was answered since this was last asked."""
        answered, self._answered = self._answered, False
        return answered

    def check(self) -> str | None:
        """Looks at a known picture; in words what is wrong, or None."""
        if not self._sight:
            return None
        try:
            return blindness(self._sight, self._look())
        except Error as error:
            return error.message

    def overdue(self, decode_s: float) -> int | None:
        """The job whose image has been decoding for longer than this, if there is one."""
        now = time.monotonic()
        for task in tuple(self._tasks.values()):
            if task.decoding_since is not None and now - task.decoding_since > decode_s:
                return task.job.id
        return None

    def close(self) -> None:
        """Finishes the jobs it has, then frees the model."""
        self._hands.close()
        self._frame_hands.shutdown(wait=False)
        self._shut()

    def _shut(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
        self.model.close()

    def _answer(self, task: Task) -> None:
        job_id = task.job.id
        try:
            if task.cancelled:
                reply: Done | End | Failed = End(job_id)
            elif not task.wanted():
                reply = Failed(job_id, DeadlinePassed("The call's time was over before its turn came."))
            elif task.job.clip is None or task.credit is None:
                reply = Done(job_id, self._seen(task))
            else:
                self._watch(task, task.job.clip, task.credit)
                reply = End(job_id) if task.wanted() or task.cancelled else Failed(job_id, _late())
        except Error as error:
            reply = Failed(job_id, error if task.wanted() or isinstance(error, CallError) else _late())
        except Exception as error:
            mark = secrets.token_hex(4)
            log.error("model '%s' failed on an image [%s]: %s", self.model.card.name, mark, place(error))
            failed = RunFailed(f"The model failed on this image; the server's log tells more at [{mark}].")
            reply = Failed(job_id, short_of(error) or failed)
        self._tasks.pop(job_id, None)
        self._answered = True
        with suppress(OSError):
            task.answering(reply)
        del reply  # an error knows this frame, and so the image: they would keep each other until somebody cleans up

    def _seen(self, task: Task) -> Answer:
        begun = time.monotonic()
        task.decoding_since = begun
        try:
            image_rgb = self.model.shown(media.decode(task.data, self._limits))
        finally:
            task.decoding_since = None
        decoded = time.monotonic()
        answer = self._predict(image_rgb, task.job.options, task.wanted)
        timings = replace(answer.timings, queue_ms=(begun - task.received) * 1e3, decode_ms=(decoded - begun) * 1e3)
        return replace(answer, timings=timings, annotated=_drawn(image_rgb, answer) if task.job.annotate else None)

    def _predict(self, image_rgb: ByteArray, options: Options, wanted: Callable[[], bool]) -> Answer:
        begun = time.perf_counter()
        prepared = self.model.prepare(image_rgb, options)
        ready = time.perf_counter()
        if self._batcher is None:
            outputs, batch = self.model.run(prepared.tensors), 1
        else:
            outputs, batch = self._batcher.run(prepared.tensors, wanted)
        ran = time.perf_counter()
        result = self.model.read(outputs, prepared.frame, options)
        done = time.perf_counter()
        return Answer(
            result=result,
            image_hw=prepared.frame.image_hw,
            timings=timed(begun, ready, ran, done, outputs),
            model=self.model.card.name,
            revision=self.model.card.revision,
            input_hw=prepared.frame.input_hw,
            batch_size=batch,
        )

    def _watch(self, task: Task, clip: Clip, credit: threading.Semaphore) -> None:
        """Answers a video frame by frame, in order, a few frames side by side, never further than its credit."""
        job = task.job
        finish = _tracked() if clip.track else None
        ahead: deque[tuple[ByteArray, Future[Answer]]] = deque()
        number = 0

        def emit() -> None:
            nonlocal number
            image_rgb, future = ahead.popleft()
            answer = future.result()
            if finish is not None:
                answer = finish(answer)
            number += 1
            if number <= job.skip:
                return
            if job.annotate:
                answer = replace(answer, annotated=_drawn(image_rgb, answer))
            credit.acquire(timeout=None if task.deadline is None else max(0.0, task.deadline - time.monotonic()))
            if task.wanted():
                task.answering(Frame(job.id, answer))

        try:
            for image_rgb in self._frames(task, clip.stride):
                if not task.wanted():
                    break
                seen = self._frame_hands.submit(self._predict, image_rgb, job.options, task.wanted)
                ahead.append((image_rgb, seen))
                if len(ahead) > self._window:
                    emit()
            while ahead and task.wanted():
                emit()
        finally:
            wait([future for _, future in ahead if not future.cancel()])

    def _frames(self, task: Task, stride: int) -> Iterator[ByteArray]:
        """The video's frames; the time for each counts as decoding, so that a stuck decoder is noticed."""
        frames = iter(media.frames(task.data, stride, self._limits))
        while True:
            task.decoding_since = time.monotonic()
            try:
                image_rgb = next(frames, None)
            finally:
                task.decoding_since = None
            if image_rgb is None:
                return
            yield image_rgb

    def _look(self) -> list[tuple[float, float]]:
        return sight(self.model.run(self.model.prepare(self._golden, self.model.trial).tensors))

    def _best_batch(self, compute: Compute, duty: Duty) -> int:
        """The size of batches that this model is fastest with; 1 for none."""
        if duty.max_batch == 1 or not self.model.session.batchable or not self._sight:
            return 1
        if duty.max_batch > 1:
            return duty.max_batch
        pace = recall(self.model.card, compute)
        if pace is None:
            tensors = self.model.prepare(self._golden, self.model.trial).tensors
            pace = measured(self.model.run, tensors, self._window, duty.largest_batch)
            remember(self.model.card, compute, pace)
        return pace.batch

    def _warmed(self, side_by_side: int) -> list[tuple[float, float]]:
        """One picture through every way that a call may take, so that no caller pays for a first time."""
        trial = self.model.trial
        try:
            prepared = self.model.prepare(self._golden, trial)
        except CallError:
            return []  # a family of another package may need what nobody can guess
        with ThreadPoolExecutor(side_by_side) as pool:
            runs = [pool.submit(self.model.run, prepared.tensors) for _ in range(side_by_side)]
            outputs, *_ = [run.result() for run in runs]
        with suppress(CallError):
            self.model.read([output[:1] for output in outputs], prepared.frame, trial)
        return sight(outputs)


def _opened(card: Card, compute: Compute, files: Files | None) -> Model:
    """Raises Changed, also where what lies there by now cannot be opened, or what opening it raises."""
    try:
        model = Model(card, compute)
    except Error:
        if files is not None:
            check_same(card, files)
        raise
    try:
        if files is not None:
            check_same(card, files)
    except Changed:
        model.close()
        raise
    return model


def _late() -> DeadlinePassed:
    return DeadlinePassed("The call was not answered before its deadline.")


def _drawn(image_rgb: ByteArray, answer: Answer) -> bytes:
    from saccade.ops.draw import draw, jpeg

    return jpeg(draw(image_rgb, answer.result))


def _tracked() -> Callable[[Answer], Answer]:
    """A function that gives the objects of one frame after another their ids."""
    from saccade.tracking import Tracker

    tracker = Tracker()
    return lambda answer: replace(answer, result=tracker.update(answer.result))
