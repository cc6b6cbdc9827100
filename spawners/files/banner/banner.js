// Says in JupyterLab when the time of a practicum session is nearly up. A prebuilt extension
// without a build: the container that JupyterLab's loader asks for, and one plugin that needs
// nothing but a command of JupyterLab.
(() => {
  "use strict";
  const WARN_MINUTES = [30, 10, 2];
  const LOOK_SECONDS = 30;

  async function ends() {
    const text = document.getElementById("jupyter-config-data").textContent;
    const answer = await fetch(`${JSON.parse(text).baseUrl}practicum/session`);
    if (!answer.ok) {
      throw new Error(`HTTP ${answer.status}`);
    }
    const told = await answer.json();
    // by this computer's clock, which may be wrong
    return told.ends === null ? null : Date.now() / 1000 + told.ends - told.now;
  }

  async function warn(app, end, said) {
    const left = (end - Date.now() / 1000) / 60;
    const due = WARN_MINUTES.filter((minutes) => left <= minutes);
    if (left <= 0 || due.length <= said.count) {
      return;
    }
    said.count = due.length;
    const minutes = Math.max(1, Math.round(left));
    const clock = new Date(end * 1000).toLocaleTimeString([], {
      hour: "2-digit",
      minute: "2-digit",
    });
    const time = minutes === 1 ? "a minute" : `${minutes} minutes`;
    await app.commands.execute("apputils:notify", {
      message: `This session ends in ${time}, at ${clock}. Save your notebooks: files stay, kernels end.`,
      type: due.length === WARN_MINUTES.length ? "error" : "warning",
      options: { autoClose: false },
    });
  }

  async function watch(app) {
    let end;
    try {
      end = await ends();
    } catch (error) {
      console.warn("practicum: the end of this session is not known:", error);
      return;
    }
    if (end === null) {
      return;
    }
    const said = { count: 0 };
    const look = () => warn(app, end, said).catch((error) => console.warn("practicum:", error));
    look();
    setInterval(look, LOOK_SECONDS * 1000);
  }

  const plugin = {
    id: "practicum-session:banner",
    autoStart: true,
    // Never waits here: JupyterLab starts only when every plugin has returned.
    activate: (app) => {
      app.started.then(() => watch(app));
    },
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["practicum-session"] = {
    init: async () => {},
    get: async (module) => {
      if (module !== "./extension") {
        throw new Error(`practicum-session has no ${module}`);
      }
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
