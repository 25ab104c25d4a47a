"""A consumer of event notifications as Ceilometer is one: oslo.messaging's own listener, which prints what it is given.

listener.py TRANSPORT_URL EXCHANGE TOPIC DURABLE(true|false)

One JSON object a line: {"method", "event_type", "publisher_id", "payload", "message_id", "timestamp"}, and "ready" before the first.
"""

import json
import logging
import sys
import threading

import oslo_messaging
from oslo_config import cfg


class Endpoint:
    def __init__(self):
        self._lock = threading.Lock()

    def _show(self, method, publisher_id, event_type, payload, metadata):
        line = json.dumps({
            "method": method,
            "event_type": event_type,
            "publisher_id": publisher_id,
            "payload": payload,
            "message_id": metadata["message_id"],
            "timestamp": metadata["timestamp"],
        })
        with self._lock:
            print(line, flush=True)

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self._show("info", publisher_id, event_type, payload, metadata)

    def error(self, ctxt, publisher_id, event_type, payload, metadata):
        self._show("error", publisher_id, event_type, payload, metadata)


def main():
    url, exchange, topic, durable = sys.argv[1:]
    # A broker that is killed, and what it delivers twice afterwards, is what the test is about.
    logging.getLogger("oslo_messaging").setLevel(logging.CRITICAL)
    conf = cfg.ConfigOpts()
    conf([], project="listener")
    transport = oslo_messaging.get_notification_transport(conf, url=f"{url}?amqp_durable_queues={durable}")
    target = oslo_messaging.Target(exchange=exchange, topic=topic)
    server = oslo_messaging.get_notification_listener(transport, [target], [Endpoint()], executor="threading")
    # One at a time, or the order in which they came is lost among the workers.
    conf.set_override("executor_thread_pool_size", 1)
    server.start()
    print("ready", flush=True)
    # Ends with whoever started it.
    sys.stdin.read()
    server.stop()


main()
