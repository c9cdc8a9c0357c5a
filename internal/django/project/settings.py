"""Settings of the smallest project that can hold NioChat's models."""
import os
from urllib.parse import unquote, urlsplit


def _database_url():
    path = os.environ.get("DATABASE_URL_FILE")
    if not path:
        return os.environ["DATABASE_URL"]
    with open(path) as file:
        return file.read().strip()


_url = urlsplit(_database_url())

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "NAME": _url.path.lstrip("/"),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
    }
}
INSTALLED_APPS = ["core", "conversations"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "America/Sao_Paulo"
