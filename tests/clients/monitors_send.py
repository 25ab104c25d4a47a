"""Calls masakari-monitors' own code where its daemons cannot be brought to: run by the interpreter of its environment.

    monitors_send.py CONFIG libvirt UUID EVENT,TYPE,DETAIL...    what instancemonitor does when libvirt calls it with these events (libvirt's names)
    monitors_send.py CONFIG guest-agent UUID                  what introspectiveinstancemonitor does when a guest's agent has been silent for long
"""

import sys
import threading

import libvirt

from masakarimonitors import config

config.parse_args(["masakari-monitors", "--config-file", sys.argv[1]])
what, words = sys.argv[2], sys.argv[3:]
if what == "libvirt":
    from masakarimonitors.instancemonitor.libvirt_handler import eventfilter

    for event in words[1:]:
        numbers = [-1 if word == "-" else getattr(libvirt, "VIR_DOMAIN_EVENT_" + word) for word in event.split(",")]
        eventfilter.EventFilter().vir_event_filter(*numbers, words[0])
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
else:
    from masakarimonitors.introspectiveinstancemonitor import qemu_utils

    qemu_utils.QemuGuestAgent()._masakari_notifier(words[0])
