"""A Celery application: its broker and its results are directories, so that nothing but Celery is needed."""

import os
from pathlib import Path

from calling import ask, ask_claude
from celery import Celery

PLACE = Path(os.environ["CELERY_PLACE"])
BROKER = {"data_folder_in": str(PLACE / "queue"), "data_folder_out": str(PLACE / "queue"), "control_folder": str(PLACE)}

app = Celery("celery_app", broker="filesystem://", backend=f"file://{PLACE / 'results'}")
app.conf.update(broker_transport_options=BROKER, worker_prefetch_multiplier=1, worker_hijack_root_logger=False)


@app.task
def both(question: str) -> int:
    """One call of each SDK; the id of the process that made them."""
    ask(question)
    ask_claude(question)
    return os.getpid()


def send(count: int) -> set[int]:
    """Have so many tasks done; the processes that did them."""
    waiting = [both.delay(f"question {number}") for number in range(count)]
    return {result.get(timeout=300) for result in waiting}
