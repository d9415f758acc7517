import "./look/fonts.css";
import "./look/tokens.css";
import "./look/base.css";
import "./look/controls.css";
import "./look/overlays.css";
import "./look/lobby.css";
import "./look/table.css";
import "./look/chat.css";
import "./look/small.css";
import "./look/theme.svelte";
import { mount } from "svelte";
import App from "./App.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("The page has no place for the app.");
mount(App, { target });
