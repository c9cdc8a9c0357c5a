"""manage.py work: serve made-up requests from several threads."""
import collections
import json
import random
import signal
import threading
import time

from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.core.exceptions import ObjectDoesNotExist

from conversations import work


class Command(BaseCommand):
    help = "Serves made-up requests until it gets SIGTERM or the given number is done, then prints what it did as JSON."

    def add_arguments(self, parser):
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--threads", type=int, default=2)
        parser.add_argument("--requests", type=int, default=0, help="per thread; 0 is until SIGTERM")
        parser.add_argument("--rate", type=float, default=0, help="requests a second per thread; 0 is as fast as it goes")

    def handle(self, *args, seed, threads, requests, rate, **options):
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        self.counts, self.lock, self.failure = collections.Counter(), threading.Lock(), None
        pool = [threading.Thread(target=self.serve, args=(random.Random(f"{seed}.{n}"), requests, rate, stop), daemon=True)
                for n in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            # A join without a timeout would keep the signal handler from running.
            while thread.is_alive():
                thread.join(0.1)
        if self.failure:
            raise self.failure
        self.stdout.write(json.dumps(self.counts, sort_keys=True))

    def serve(self, rng, requests, rate, stop):
        try:
            worker, done = work.Worker(rng), 0
            functions, weights = zip(*work.REQUESTS)
            while not stop.is_set() and (not requests or done < requests):
                self.request(worker, rng.choices(functions, weights)[0])
                done += 1
                if rate:
                    time.sleep(rng.expovariate(rate))
        except Exception as e:  # the main thread raises it
            self.failure = e
            stop.set()
        finally:
            connection.close()

    def request(self, worker, function):
        outcome = function.__name__
        try:
            function(worker)
        except (work.Nothing, ObjectDoesNotExist):
            outcome = "nothing"
        except DatabaseError as e:
            # Deadlocks and constraints are a failed request; anything else is a
            # mistake of this project.
            code = getattr(e.__cause__, "pgcode", None) or getattr(e.__cause__, "sqlstate", None) or ""
            if not (code.startswith("23") or code == "40P01" or "did not affect any rows" in str(e)):
                raise
            outcome = "refused"
        with self.lock:
            self.counts[outcome] += 1
