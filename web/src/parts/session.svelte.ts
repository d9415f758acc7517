/** Who this browser is, as the server knows it by the cookie; `undefined` until it was asked. */
import * as api from "../protocol/api";
import type { User } from "../protocol/api";
import { keep, kept } from "./kept";

const CODE_KEPT = "code-kept";

class Session {
  user = $state.raw<User | null | undefined>(undefined);
  /** A recovery code that its owner has not put away yet. */
  code = $state.raw<string | null>(null);

  async ask(): Promise<void> {
    this.user = await api.whoAmI();
  }

  /** Take a seat in this house: a new session, or a new name for the one there is. */
  async beCalled(name: string, password?: string): Promise<User> {
    const wanted = name.trim();
    if (!this.user) this.user = await api.sitDownAs(wanted, password);
    else if (this.user.name !== wanted) this.user = await api.rename(wanted);
    return this.user;
  }

  async recover(code: string): Promise<void> {
    this.user = await api.recover(code.trim());
    this.keepsCode();
  }

  /** Show a code to whoever has none yet: a new one makes the earlier one worthless, so nobody gets two unasked. */
  async offerCode(): Promise<void> {
    if (!this.user || kept(CODE_KEPT) === this.user.id) return;
    this.code = await api.recoveryCode();
    this.keepsCode();
  }

  private keepsCode(): void {
    if (this.user) keep(CODE_KEPT, this.user.id);
  }

  async signOut(): Promise<void> {
    await api.signOut();
    this.user = null;
    this.code = null;
  }
}

export const session = new Session();
