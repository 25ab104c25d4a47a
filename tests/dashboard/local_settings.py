"""Horizon's settings for one walk: what an operator writes into openstack_dashboard/local/local_settings.py, taken from the environment.

No memcached and no database: sessions are files of the walk, since a token with its catalog does not fit into a cookie.
"""

import os

STATE = os.environ["DASHBOARD_STATE"]

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
OPENSTACK_KEYSTONE_URL = os.environ["DASHBOARD_KEYSTONE"]
OPENSTACK_ENDPOINT_TYPE = "publicURL"
LOCAL_PATH = STATE
SECRET_KEY = os.environ["DASHBOARD_SECRET"]
TIME_ZONE = "UTC"

SESSION_ENGINE = "django.contrib.sessions.backends.file"
SESSION_FILE_PATH = STATE
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# Collected and compressed once, when the environment is made.
STATIC_ROOT = os.environ["DASHBOARD_STATIC"]
COMPRESS_OFFLINE = True
AVAILABLE_THEMES = [("default", "Default", "themes/default")]

# A list's second page then needs three segments only.
API_RESULT_PAGE_SIZE = 2

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
